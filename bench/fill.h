/*
 * A store with drawn templates. Any failure ends the process with its reason.
 */
#ifndef BENCH_FILL_H
#define BENCH_FILL_H

/* Makes galleries "name:n,name:n" of subjects s0, s1, ... and template 0, 1, ... of the set. */
void fill_store(const char *dir, const char *key, const char *pack_dir, char *galleries);

#endif
