#include "look_up.h"

#include "rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdlib>
#include <cstring>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vbmi")))

namespace greenload {

namespace {

// A table of 256 levels in four vectors. An instruction looks up in two of them, by the lower 7 bits of a level.
struct Table {
  __m512i parts[4];

  AVX512 inline explicit Table(const uint8_t* table) {
    for (int k = 0; k < 4; k++) {
      parts[k] = _mm512_loadu_si512(table + 64 * k);
    }
  }
  AVX512 inline __m512i look_up(__m512i levels) const {
    const __m512i low = _mm512_permutex2var_epi8(parts[0], levels, parts[1]);
    const __m512i high = _mm512_permutex2var_epi8(parts[2], levels, parts[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(levels), low, high);
  }
};

AVX512 inline __mmask64 first_values(int64_t count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

AVX512 void by_one(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* tables) {
  const Table table(tables);
  for (int64_t i = 0; i < values; i += 64) {
    const __mmask64 some = first_values(values - i);
    _mm512_mask_storeu_epi8(out + i, some, table.look_up(_mm512_maskz_loadu_epi8(some, in + i)));
  }
}

AVX512 void by_three(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* tables) {
  const Table first(tables), second(tables + 256), third(tables + 512);
  constexpr __mmask64 kThirds = 0x9249249249249249;  // every third value, from the first on
  __mmask64 of_second = kThirds << 1, of_third = kThirds << 2;
  for (int64_t i = 0; i < values; i += 64) {
    const __mmask64 some = first_values(values - i);
    const __m512i levels = _mm512_maskz_loadu_epi8(some, in + i);
    __m512i found = _mm512_mask_blend_epi8(of_second, first.look_up(levels), second.look_up(levels));
    found = _mm512_mask_blend_epi8(of_third, found, third.look_up(levels));
    _mm512_mask_storeu_epi8(out + i, some, found);
    // A vector has 64 values, one more than whole pixels: the next one begins with the second channel.
    const __mmask64 of_first = ~(of_second | of_third);
    of_third = of_second;
    of_second = of_first;
  }
}

bool wants_avx512() {
  const char* forced = getenv("GREENLOAD_NATIVE_SIMD");
  return uses_avx2() && !(forced && strcmp(forced, "avx2") == 0) && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi");
}

bool uses_avx512() {
  static const bool uses = wants_avx512();
  return uses;
}

}  // namespace

int64_t look_up_avx512(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* tables, int count) {
  if ((count != 1 && count != 3) || !uses_avx512()) {
    return 0;
  }
  count == 1 ? by_one(in, out, values, tables) : by_three(in, out, values, tables);
  return values;
}

}  // namespace greenload

#else

namespace greenload {

int64_t look_up_avx512(const uint8_t*, uint8_t*, int64_t, const uint8_t*, int) { return 0; }

}  // namespace greenload

#endif
