// How the loops over bits are compiled: as a whole, so that what reads them stays in registers, and once more with
// instructions that processors with AVX2 have.
#pragma once
#include <cstdint>

#define INLINE __attribute__((always_inline)) inline

#if defined(__x86_64__)
#define QUICK __attribute__((target("avx2,bmi,bmi2,popcnt")))
#else
#define QUICK
#endif

namespace greenload {

// The bits of `value`, from the lowest up, at the places of the ones of `mask`. kQuick: only in what is QUICK.
template <bool kQuick>
INLINE uint64_t deposited(uint64_t value, uint64_t mask) {
#if defined(__x86_64__)
  if (kQuick) {
    uint64_t result;  // as assembler: an intrinsic can't be part of a template that isn't QUICK
    __asm__("pdep %2, %1, %0" : "=r"(result) : "r"(value), "r"(mask));
    return result;
  }
#endif
  uint64_t result = 0;
  for (; mask; mask &= mask - 1, value >>= 1) {
    result |= value & 1 ? mask & -mask : 0;
  }
  return result;
}

}  // namespace greenload
