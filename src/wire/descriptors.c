#include "biomatch/wire.h"

/* The build names the directory that holds the file to the assembler. */
__asm__(".section .rodata\n"
	".balign 16\n"
	"descriptor_set_begin:\n"
	".incbin \"descriptor_set.pb\"\n"
	"descriptor_set_end:\n"
	".previous\n");

extern const uint8_t descriptor_set_begin[] __attribute__((visibility("hidden")));
extern const uint8_t descriptor_set_end[] __attribute__((visibility("hidden")));

struct bytes wire_descriptor_set(void)
{
	return (struct bytes){descriptor_set_begin,
			      (size_t)(descriptor_set_end - descriptor_set_begin)};
}
