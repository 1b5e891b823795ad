// How the loops over bits are compiled: as a whole, so that what reads them stays in registers, and once more with
// instructions that processors with AVX2 have.
#pragma once

#define INLINE __attribute__((always_inline)) inline

#if defined(__x86_64__)
#define QUICK __attribute__((target("avx2,bmi,bmi2,popcnt")))
#else
#define QUICK
#endif
