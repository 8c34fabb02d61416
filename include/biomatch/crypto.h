/*
 * OpenSSL's memory. Some of its answers are the same whether something is wrong or memory was out
 * (an algorithm that is not known, a signature that does not hold), and what it notes as
 * errors does not always tell. Who must not confuse the two asks here.
 *
 * Thread: each knows of its own allocations alone.
 */
#ifndef BIOMATCH_CRYPTO_H
#define BIOMATCH_CRYPTO_H

#include <stdbool.h>

/* Before OpenSSL is used for anything; without it crypto_ran_out is never true. */
void crypto_init(void);
/* Whether an allocation of OpenSSL's failed on this thread since this was asked last. */
bool crypto_ran_out(void);

#endif
