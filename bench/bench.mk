# Programs for measurements, not installed.

$B/bench/embed: bench/embed.c $(foreach d,face $(call linked,face),$B/lib/lib$d.a)
	@mkdir -p $(@D)
	@echo '  LINK    $@'
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $< -o $@ $(LDFLAGS) -Wl,--start-group \
		$(foreach d,face $(call linked,face),$B/lib/lib$d.a) -Wl,--end-group $(call liblibs,face)
