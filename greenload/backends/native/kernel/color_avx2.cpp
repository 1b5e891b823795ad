#include "color_avx2.h"

#include "rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#define AVX2 __attribute__((target("avx2")))

namespace greenload {

namespace {

// One channel of 8 pixels: 4 of them begin in each half.
AVX2 inline __m256 channel(__m256i pixels, int c) {
  const __m256i first = _mm256_setr_epi8(0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1,  //
                                         0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1);
  // Places that are −1 stay negative: they give 0.
  const __m256i places = _mm256_add_epi8(first, _mm256_set1_epi32(c));
  return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(pixels, places));
}

AVX2 inline __m256i levels(__m256 r, __m256 g, __m256 b, const float* m) {
  __m256 sum = _mm256_add_ps(_mm256_mul_ps(r, _mm256_set1_ps(m[0])), _mm256_mul_ps(g, _mm256_set1_ps(m[1])));
  sum = _mm256_add_ps(sum, _mm256_mul_ps(b, _mm256_set1_ps(m[2])));
  sum = _mm256_add_ps(sum, _mm256_set1_ps(m[3]));
  sum = _mm256_min_ps(_mm256_max_ps(sum, _mm256_setzero_ps()), _mm256_set1_ps(255.0f));
  return _mm256_cvttps_epi32(_mm256_add_ps(sum, _mm256_set1_ps(0.5f)));
}

AVX2 inline void store12(uint8_t* to, __m128i v) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), v);
  const int last = _mm_extract_epi32(v, 2);
  memcpy(to + 8, &last, 4);
}

AVX2 int64_t recolor(const uint8_t* in, uint8_t* out, int64_t pixels, const float* m) {
  const __m256i close = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,  //
                                         0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  int64_t i = 0;
  // 28 bytes are read.
  for (; i + 10 <= pixels; i += 8, in += 24, out += 24) {
    __m256i eight =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))),
                                _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 12)), 1);
    __m256 r = channel(eight, 0), g = channel(eight, 1), b = channel(eight, 2);
    __m256i rgb = _mm256_or_si256(levels(r, g, b, m), _mm256_slli_epi32(levels(r, g, b, m + 4), 8));
    rgb = _mm256_shuffle_epi8(_mm256_or_si256(rgb, _mm256_slli_epi32(levels(r, g, b, m + 8), 16)), close);
    store12(out, _mm256_castsi256_si128(rgb));
    store12(out + 12, _mm256_extracti128_si256(rgb, 1));
  }
  return i;
}

AVX2 int64_t scale(const uint8_t* in, float* out, int64_t values, const float* scales, const float* offsets) {
  const __m256 s[3] = {_mm256_loadu_ps(scales), _mm256_loadu_ps(scales + 8), _mm256_loadu_ps(scales + 16)};
  const __m256 o[3] = {_mm256_loadu_ps(offsets), _mm256_loadu_ps(offsets + 8), _mm256_loadu_ps(offsets + 16)};
  int64_t i = 0;
  for (; i + 24 <= values; i += 24) {
    for (int k = 0; k < 3; k++) {
      __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in + i + 8 * k));
      __m256 v = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
      _mm256_storeu_ps(out + i + 8 * k, _mm256_add_ps(_mm256_mul_ps(v, s[k]), o[k]));
    }
  }
  return i;
}

}  // namespace

int64_t recolor_avx2(const uint8_t* in, uint8_t* out, int64_t pixels, const float* matrix) {
  return uses_avx2() ? recolor(in, out, pixels, matrix) : 0;
}

int64_t scale_avx2(const uint8_t* in, float* out, int64_t values, const float* scales, const float* offsets) {
  return uses_avx2() ? scale(in, out, values, scales, offsets) : 0;
}

}  // namespace greenload

#else

namespace greenload {

int64_t recolor_avx2(const uint8_t*, uint8_t*, int64_t, const float*) { return 0; }
int64_t scale_avx2(const uint8_t*, float*, int64_t, const float*, const float*) { return 0; }

}  // namespace greenload

#endif
