#include "warp.h"

#include "rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#define AVX2 __attribute__((target("avx2")))

namespace greenload {

namespace {

// A vector of 8 pixels has them in this order: so two vectors of 4 halve into it.
constexpr int kOrder[8] = {0, 1, 4, 5, 2, 3, 6, 7};

// The upper and the lower halves of 64-bit numbers of pixels 0 … 3 and 4 … 7.
AVX2 inline __m256i upper_halves(__m256i first, __m256i second) {
  return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(first), _mm256_castsi256_ps(second), 0xdd));
}
AVX2 inline __m256i lower_halves(__m256i first, __m256i second) {
  return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(first), _mm256_castsi256_ps(second), 0x88));
}

// Places of 8 pixels on one axis.
struct Places {
  __m256i first, second, step;

  AVX2 inline Places(int64_t start, int64_t by) {
    first = _mm256_setr_epi64x(start, start + by, start + 2 * by, start + 3 * by);
    second = _mm256_add_epi64(first, _mm256_set1_epi64x(4 * by));
    step = _mm256_set1_epi64x(8 * by);
  }
  AVX2 inline void move_on() {
    first = _mm256_add_epi64(first, step);
    second = _mm256_add_epi64(second, step);
  }
  AVX2 inline __m256i whole() const { return upper_halves(first, second); }
  AVX2 inline __m256 share() const {
    const __m256i bits = _mm256_srli_epi32(lower_halves(first, second), 8);
    return _mm256_mul_ps(_mm256_cvtepi32_ps(bits), _mm256_set1_ps(0x1p-24f));
  }
};

// 8 bytes at each of four places.
AVX2 inline __m256i eight_bytes(const uint8_t* pixels, int32_t a, int32_t b, int32_t c, int32_t d) {
  auto two = [&](int32_t low, int32_t high) AVX2 {
    const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixels + low));
    return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(first), reinterpret_cast<const __m64*>(pixels + high)));
  };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(two(a, b)), two(c, d), 1);
}

// Two neighbouring pixels of a row, for each of 8: r g b r, g b.
struct Pair {
  __m256i left, right;

  AVX2 inline Pair(const uint8_t* pixels, const int32_t* at) {
    const __m256i first = eight_bytes(pixels, at[0], at[1], at[4], at[5]);
    const __m256i second = eight_bytes(pixels, at[2], at[3], at[6], at[7]);
    left = lower_halves(first, second);
    right = upper_halves(first, second);
  }
  // A channel between the two.
  template <int kChannel>
  AVX2 inline __m256 between(__m256 share) const {
    const __m256i byte = _mm256_set1_epi32(255);
    const __m256i from = _mm256_and_si256(_mm256_srli_epi32(left, 8 * kChannel), byte);
    const __m256i to = kChannel == 0 ? _mm256_srli_epi32(left, 24)
                                     : _mm256_and_si256(_mm256_srli_epi32(right, 8 * (kChannel - 1)), byte);
    const __m256 a = _mm256_cvtepi32_ps(from), b = _mm256_cvtepi32_ps(to);
    return _mm256_add_ps(a, _mm256_mul_ps(_mm256_sub_ps(b, a), share));
  }
};

// A channel's levels; lanes of `unsure` that aren't become negative.
template <int kChannel>
AVX2 inline __m256i levels(const Pair& above, const Pair& below, __m256 right_share, __m256 bottom_share,
                           __m256& unsure) {
  const __m256 upper = above.between<kChannel>(right_share), lower = below.between<kChannel>(right_share);
  const __m256 half = _mm256_set1_ps(0.5f), sure = _mm256_set1_ps(kSureLevels);
  const __m256 value = _mm256_add_ps(upper, _mm256_mul_ps(_mm256_sub_ps(lower, upper), bottom_share));
  const __m256 raised = _mm256_add_ps(value, half);
  const __m256i whole = _mm256_cvttps_epi32(raised);
  const __m256 place = _mm256_sub_ps(_mm256_sub_ps(raised, _mm256_cvtepi32_ps(whole)), half);
  const __m256 distance = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), place);
  unsure = _mm256_or_ps(unsure, _mm256_sub_ps(sure, distance));
  return whole;
}

AVX2 inline void store12(uint8_t* to, __m128i v) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), v);
  const int last = _mm_extract_epi32(v, 2);
  memcpy(to + 8, &last, 4);
}

AVX2 int64_t warp(const WarpLine& line, int64_t begin, int64_t end, uint8_t* out, Unsure& unsure) {
  const __m256i close = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,  //
                                         0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const __m256i stride = _mm256_set1_epi32(static_cast<int32_t>(line.stride));
  const uint8_t *const pixels = line.pixels, *const next = pixels + line.below;
  Places x(line.x + line.x_step * begin, line.x_step), y(line.y + line.y_step * begin, line.y_step);
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    const __m256i column = x.whole();
    const __m256i bytes = _mm256_add_epi32(column, _mm256_add_epi32(column, column));
    alignas(32) int32_t at[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(at), _mm256_add_epi32(_mm256_mullo_epi32(y.whole(), stride), bytes));
    const __m256 right_share = x.share(), bottom_share = y.share();
    const Pair above(pixels, at), below(next, at);
    __m256 odd = _mm256_setzero_ps();
    __m256i rgb = levels<0>(above, below, right_share, bottom_share, odd);
    rgb = _mm256_or_si256(rgb, _mm256_slli_epi32(levels<1>(above, below, right_share, bottom_share, odd), 8));
    rgb = _mm256_or_si256(rgb, _mm256_slli_epi32(levels<2>(above, below, right_share, bottom_share, odd), 16));
    rgb = _mm256_shuffle_epi8(_mm256_permute4x64_epi64(rgb, 0xd8), close);
    store12(out + 3 * i, _mm256_castsi256_si128(rgb));
    store12(out + 3 * i + 12, _mm256_extracti128_si256(rgb, 1));
    for (unsigned lanes = static_cast<unsigned>(_mm256_movemask_ps(odd)); lanes; lanes &= lanes - 1) {
      unsure.columns[unsure.count++] = static_cast<int>(i) + kOrder[__builtin_ctz(lanes)];
    }
    x.move_on();
    y.move_on();
  }
  return i;
}

}  // namespace

int64_t warp_avx2(const WarpLine& line, int64_t begin, int64_t end, uint8_t* out, Unsure& unsure) {
  return end - begin >= 8 && uses_avx2() ? warp(line, begin, end, out, unsure) : begin;
}

}  // namespace greenload

#else

namespace greenload {

int64_t warp_avx2(const WarpLine&, int64_t begin, int64_t, uint8_t*, Unsure&) { return begin; }

}  // namespace greenload

#endif
