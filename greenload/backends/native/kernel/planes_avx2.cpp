#include "planes_rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

namespace greenload {

namespace {

AVX2 inline __m256i wide(const uint8_t* from) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

AVX2 inline __m256i load(const int16_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

AVX2 inline void store(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

AVX2 inline void store16(uint8_t* to, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), v); }

AVX2 void blend(const uint8_t* near, const uint8_t* far, int16_t* to, int64_t count) {
  const __m256i three = _mm256_set1_epi16(3);
  for (int64_t i = 0; i < count; i += 16) {
    store(to + i, _mm256_add_epi16(_mm256_mullo_epi16(wide(near + i), three), wide(far + i)));
  }
}

AVX2 void widen(const uint8_t* from, int16_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    store(to + i, wide(from + i));
  }
}

AVX2 void narrow(const int16_t* sums, uint8_t* to, int64_t count, int bias) {
  const __m256i add = _mm256_set1_epi16(static_cast<int16_t>(bias));
  for (int64_t i = 0; i < count; i += 16) {
    __m256i v = _mm256_srli_epi16(_mm256_add_epi16(load(sums + i), add), 2);
    store16(to + i, _mm_packus_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
  }
}

template <int kShift>
AVX2 void spread_by(const int16_t* sums, uint8_t* to, int64_t count, int left, int right) {
  const __m256i three = _mm256_set1_epi16(3);
  const __m256i l = _mm256_set1_epi16(static_cast<int16_t>(left)), r = _mm256_set1_epi16(static_cast<int16_t>(right));
  for (int64_t i = 0; i < count; i += 16) {
    __m256i own = _mm256_mullo_epi16(load(sums + i), three);
    __m256i even = _mm256_srli_epi16(_mm256_add_epi16(_mm256_add_epi16(own, load(sums + i - 1)), l), kShift);
    __m256i odd = _mm256_srli_epi16(_mm256_add_epi16(_mm256_add_epi16(own, load(sums + i + 1)), r), kShift);
    store(to + 2 * i, _mm256_or_si256(even, _mm256_slli_epi16(odd, 8)));
  }
}

void spread(const int16_t* sums, uint8_t* to, int64_t count, int left, int right, int shift) {
  shift == 2 ? spread_by<2>(sums, to, count, left, right) : spread_by<4>(sums, to, count, left, right);
}

// Bytes of 16 pixels' channel c that lie in a third of their 48 bytes.
template <int kChannel, int kThird>
AVX2 inline __m128i places() {
  alignas(16) static constexpr struct Places {
    int8_t at[16];
    constexpr Places() : at() {
      for (int i = 0; i < 16; i++) {
        const int byte = 16 * kThird + i;
        at[i] = static_cast<int8_t>(byte % 3 == kChannel ? byte / 3 : -1);
      }
    }
  } made;
  return _mm_load_si128(reinterpret_cast<const __m128i*>(made.at));
}

template <int kThird>
AVX2 inline __m128i third(__m128i r, __m128i g, __m128i b) {
  return _mm_or_si128(
      _mm_or_si128(_mm_shuffle_epi8(r, places<0, kThird>()), _mm_shuffle_epi8(g, places<1, kThird>())),
      _mm_shuffle_epi8(b, places<2, kThird>()));
}

AVX2 inline void store_rgb(uint8_t* to, __m128i r, __m128i g, __m128i b) {
  store16(to, third<0>(r, g, b));
  store16(to + 16, third<1>(r, g, b));
  store16(to + 32, third<2>(r, g, b));
}

// x · (1 + k / 65536) rounded half up, of 16 bits: `twice` is 2 · x.
AVX2 inline __m256i scaled(__m256i twice, __m256i k) {
  return _mm256_srai_epi16(_mm256_add_epi16(_mm256_mulhi_epi16(twice, k), _mm256_set1_epi16(1)), 1);
}

// jdcolor.c's tables in 16 bits: 1.402 = 1 + 26345/65536, 1.772 = 2 − 14942/65536, −0.71414 = 18734/65536 − 1.
AVX2 void convert(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, uint8_t* to, int64_t count) {
  const __m256i middle = _mm256_set1_epi16(128), half = _mm256_set1_epi32(32768);
  const __m256i kr = _mm256_set1_epi16(26345), kb = _mm256_set1_epi16(-14942);
  const __m256i kg = _mm256_unpacklo_epi16(_mm256_set1_epi16(-22554), _mm256_set1_epi16(18734));
  for (int64_t i = 0; i < count; i += 16, to += 48) {
    __m256i y = wide(luma + i), b = _mm256_sub_epi16(wide(blue + i), middle);
    __m256i r = _mm256_sub_epi16(wide(red + i), middle);
    __m256i b2 = _mm256_add_epi16(b, b), r2 = _mm256_add_epi16(r, r);
    __m256i red16 = _mm256_add_epi16(y, _mm256_add_epi16(r, scaled(r2, kr)));
    __m256i blue16 = _mm256_add_epi16(y, _mm256_add_epi16(b2, scaled(b2, kb)));
    __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(b, r), kg);
    __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(b, r), kg);
    low = _mm256_srai_epi32(_mm256_add_epi32(low, half), 16);
    high = _mm256_srai_epi32(_mm256_add_epi32(high, half), 16);
    __m256i green16 = _mm256_add_epi16(y, _mm256_sub_epi16(_mm256_packs_epi32(low, high), r));
    __m256i rg = _mm256_permute4x64_epi64(_mm256_packus_epi16(red16, green16), 0xd8);
    __m256i bb = _mm256_permute4x64_epi64(_mm256_packus_epi16(blue16, blue16), 0xd8);
    store_rgb(to, _mm256_castsi256_si128(rg), _mm256_extracti128_si256(rg, 1), _mm256_castsi256_si128(bb));
  }
}

AVX2 void convert_grey(const uint8_t* luma, uint8_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 16, to += 48) {
    __m128i y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(luma + i));
    store_rgb(to, y, y, y);
  }
}

}  // namespace

const PlaneLoops kAvx2PlaneLoops = {blend, widen, narrow, spread, convert, convert_grey};

}  // namespace greenload

#else

namespace greenload {

const PlaneLoops kAvx2PlaneLoops = kPortablePlaneLoops;

}  // namespace greenload

#endif
