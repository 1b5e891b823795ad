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

// The bytes of each half as three shuffles' results share them: of 48 bytes of RGB every third is this channel's.
template <int kChannel>
AVX2 inline __m256i spaced(__m256i v) {
  alignas(32) static constexpr struct Places {
    int8_t at[32];
    constexpr Places() : at() {
      for (int byte = 0; byte < 96; byte++) {
        if (byte % 3 == kChannel) {
          at[byte % 16 + byte / 48 * 16] = static_cast<int8_t>(byte % 48 / 3);
        }
      }
    }
  } places;
  return _mm256_shuffle_epi8(v, _mm256_load_si256(reinterpret_cast<const __m256i*>(places.at)));
}

// Puts bytes of a at 0, 3, 6 …, of b at 1, 4, 7 …, of c at 2, 5, 8 … of each half.
AVX2 inline __m256i thirds(__m256i a, __m256i b, __m256i c) {
  const __m256i second = _mm256_setr_epi8(0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0,  //
                                          0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0);
  const __m256i third = _mm256_setr_epi8(0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0,  //
                                         0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0);
  return _mm256_blendv_epi8(_mm256_blendv_epi8(a, b, second), c, third);
}

// 32 pixels, their channels in order.
AVX2 inline void store_rgb(uint8_t* to, __m256i r, __m256i g, __m256i b) {
  r = spaced<0>(r);
  g = spaced<1>(g);
  b = spaced<2>(b);
  __m256i first = thirds(r, g, b), middle = thirds(g, b, r), last = thirds(b, r, g);
  store(to, _mm256_permute2x128_si256(first, middle, 0x20));
  store(to + 32, _mm256_blend_epi32(last, first, 0xf0));
  store(to + 64, _mm256_permute2x128_si256(middle, last, 0x31));
}

// Bytes of two vectors of 16 values, in order.
AVX2 inline __m256i packed(__m256i first, __m256i second) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi16(first, second), 0xd8);
}

struct Rgb16 {
  __m256i r, g, b;
};

// 16 pixels. jdcolor.c's tables in 16 bits: 1.402 = 1 + 26345/65536, 1.772 = 2 − 14942/65536, −0.71414 = 18734/65536 − 1.
AVX2 inline Rgb16 sixteen(const uint8_t* luma, const uint8_t* blue, const uint8_t* red) {
  const __m256i middle = _mm256_set1_epi16(128), half = _mm256_set1_epi32(32768), one = _mm256_set1_epi16(1);
  const __m256i kr = _mm256_set1_epi16(26345), kb = _mm256_set1_epi16(-14942 / 2);
  const __m256i kg = _mm256_unpacklo_epi16(_mm256_set1_epi16(-22554), _mm256_set1_epi16(18734));
  __m256i y = wide(luma), b = _mm256_sub_epi16(wide(blue), middle), r = _mm256_sub_epi16(wide(red), middle);
  // x · k / 65536, rounded half up: of an even k a processor's rounding multiplication by its half is just that.
  __m256i red_part = _mm256_mulhi_epi16(_mm256_add_epi16(r, r), kr);
  red_part = _mm256_srai_epi16(_mm256_add_epi16(red_part, one), 1);
  __m256i blue_part = _mm256_mulhrs_epi16(b, kb);
  __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(b, r), kg);
  __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(b, r), kg);
  low = _mm256_srai_epi32(_mm256_add_epi32(low, half), 16);
  high = _mm256_srai_epi32(_mm256_add_epi32(high, half), 16);
  return {_mm256_add_epi16(y, _mm256_add_epi16(r, red_part)),
          _mm256_add_epi16(y, _mm256_sub_epi16(_mm256_packs_epi32(low, high), r)),
          _mm256_add_epi16(y, _mm256_add_epi16(_mm256_add_epi16(b, b), blue_part))};
}

AVX2 void convert(const uint8_t* luma, const uint8_t* blue, const uint8_t* red, uint8_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 32, to += 96) {
    const Rgb16 a = sixteen(luma + i, blue + i, red + i), b = sixteen(luma + i + 16, blue + i + 16, red + i + 16);
    store_rgb(to, packed(a.r, b.r), packed(a.g, b.g), packed(a.b, b.b));
  }
}

AVX2 void convert_grey(const uint8_t* luma, uint8_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 32, to += 96) {
    __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(luma + i));
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
