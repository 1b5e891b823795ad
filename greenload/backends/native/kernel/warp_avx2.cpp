#include "warp.h"

#include "rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#define AVX2 __attribute__((target("avx2")))

namespace greenload {

namespace {

// A vector of 8 pixels has them in the order 0 1 4 5 | 2 3 6 7: so two vectors of 4 halve into it.

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

AVX2 inline __m256i both(__m128i lower, __m128i upper) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(lower), upper, 1);
}

// 8 bytes at each of four places.
AVX2 inline __m256i eight_bytes(const uint8_t* pixels, int32_t a, int32_t b, int32_t c, int32_t d) {
  auto two = [&](int32_t low, int32_t high) AVX2 {
    const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixels + low));
    return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(first), reinterpret_cast<const __m64*>(pixels + high)));
  };
  return both(two(a, b), two(c, d));
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
  template <int kChannel>
  AVX2 inline __m256i left_levels() const {
    return _mm256_and_si256(_mm256_srli_epi32(left, 8 * kChannel), _mm256_set1_epi32(255));
  }
  template <int kChannel>
  AVX2 inline __m256i right_levels() const {
    return kChannel == 0 ? _mm256_srli_epi32(left, 24)
                         : _mm256_and_si256(_mm256_srli_epi32(right, 8 * (kChannel - 1)), _mm256_set1_epi32(255));
  }
  // A channel between the two.
  template <int kChannel>
  AVX2 inline __m256 between(__m256 share) const {
    const __m256 a = _mm256_cvtepi32_ps(left_levels<kChannel>()), b = _mm256_cvtepi32_ps(right_levels<kChannel>());
    return _mm256_add_ps(a, _mm256_mul_ps(_mm256_sub_ps(b, a), share));
  }
};

AVX2 inline __m256d sum_of(const Terms& terms, __m256d middles) {
  const __m256d sum = _mm256_add_pd(_mm256_mul_pd(_mm256_set1_pd(terms.step), middles), _mm256_set1_pd(terms.row));
  return _mm256_add_pd(sum, _mm256_set1_pd(terms.shift));
}

// What two neighbours on an axis count of 4 pixels in float64, as the reference has it.
struct Shares {
  __m256d first, second, odd;  // the place, less the first neighbour's

  AVX2 inline Shares(__m256d place, __m128i whole) {
    const __m256d one = _mm256_set1_pd(1.0), neighbour = _mm256_cvtepi32_pd(whole);
    odd = _mm256_sub_pd(place, neighbour);
    first = _mm256_sub_pd(one, odd);
    second = _mm256_sub_pd(one, _mm256_sub_pd(_mm256_add_pd(neighbour, one), place));
  }
  // Whether all places lie from the first neighbour on and before the second, or if `still` on the first.
  AVX2 inline bool fits(bool still) const {
    const __m256d most = still ? _mm256_set1_pd(0x1p-1074) : _mm256_set1_pd(1.0);
    const __m256d inside =
        _mm256_and_pd(_mm256_cmp_pd(odd, _mm256_setzero_pd(), _CMP_GE_OQ), _mm256_cmp_pd(odd, most, _CMP_LT_OQ));
    return _mm256_movemask_pd(inside) == 15;
  }
};

// 4 pixels in float64: one half of vectors of 8.
struct Exactly {
  __m256d shares[4];

  AVX2 inline Exactly(const Shares& across, const Shares& down) {
    shares[0] = _mm256_mul_pd(across.first, down.first);
    shares[1] = _mm256_mul_pd(across.second, down.first);
    shares[2] = _mm256_mul_pd(across.first, down.second);
    shares[3] = _mm256_mul_pd(across.second, down.second);
  }
  AVX2 inline __m128i levels(__m128i a, __m128i b, __m128i c, __m128i d) const {
    __m256d sum = _mm256_mul_pd(shares[0], _mm256_cvtepi32_pd(a));
    sum = _mm256_add_pd(sum, _mm256_mul_pd(shares[1], _mm256_cvtepi32_pd(b)));
    sum = _mm256_add_pd(sum, _mm256_mul_pd(shares[2], _mm256_cvtepi32_pd(c)));
    sum = _mm256_add_pd(sum, _mm256_mul_pd(shares[3], _mm256_cvtepi32_pd(d)));
    return _mm256_cvttpd_epi32(_mm256_add_pd(sum, _mm256_set1_pd(0.5)));
  }
};

template <int kChannel>
AVX2 inline __m256i levels_exactly(const Pair& above, const Pair& below, const Exactly& first, const Exactly& second) {
  const __m256i a = above.left_levels<kChannel>(), b = above.right_levels<kChannel>();
  const __m256i c = below.left_levels<kChannel>(), d = below.right_levels<kChannel>();
  const __m128i low = first.levels(_mm256_castsi256_si128(a), _mm256_castsi256_si128(b), _mm256_castsi256_si128(c),
                                   _mm256_castsi256_si128(d));
  const __m128i high = second.levels(_mm256_extracti128_si256(a, 1), _mm256_extracti128_si256(b, 1),
                                     _mm256_extracti128_si256(c, 1), _mm256_extracti128_si256(d, 1));
  return both(low, high);
}

AVX2 inline __m256i joined(__m256i r, __m256i g, __m256i b) {
  return _mm256_or_si256(r, _mm256_or_si256(_mm256_slli_epi32(g, 8), _mm256_slli_epi32(b, 16)));
}

// 8 pixels in float64.
AVX2 inline __m256i rgb_exactly(const Pair& above, const Pair& below, const Exactly& first, const Exactly& second) {
  return joined(levels_exactly<0>(above, below, first, second), levels_exactly<1>(above, below, first, second),
                levels_exactly<2>(above, below, first, second));
}

// The same of a line; false where that has one of them between others than fixed point.
AVX2 __attribute__((noinline)) bool eight_exactly(const WarpLine& line, int64_t i, __m256i columns, __m256i rows,
                                                  const Pair& above, const Pair& below, __m256i& rgb) {
  const __m256d middles = _mm256_set1_pd(line.middle + static_cast<double>(i)), half = _mm256_set1_pd(0.5);
  const __m256d of_first = _mm256_add_pd(middles, _mm256_setr_pd(0, 1, 4, 5));
  const __m256d of_second = _mm256_add_pd(middles, _mm256_setr_pd(2, 3, 6, 7));
  auto shares = [&](const Terms& terms, __m256d at, __m128i whole)
                    AVX2 { return Shares(_mm256_sub_pd(sum_of(terms, at), half), whole); };
  const Shares x = shares(line.across, of_first, _mm256_castsi256_si128(columns));
  const Shares y = shares(line.down, of_first, _mm256_castsi256_si128(rows));
  const Shares next_x = shares(line.across, of_second, _mm256_extracti128_si256(columns, 1));
  const Shares next_y = shares(line.down, of_second, _mm256_extracti128_si256(rows, 1));
  rgb = rgb_exactly(above, below, Exactly(x, y), Exactly(next_x, next_y));
  const bool still = line.below == 0;
  return x.fits(false) && y.fits(still) && next_x.fits(false) && next_y.fits(still);
}

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

// 8 pixels' levels; lanes of `unsure` that aren't become negative.
AVX2 inline __m256i rgb_of(const Pair& above, const Pair& below, __m256 right_share, __m256 bottom_share,
                           __m256& unsure) {
  const __m256i r = levels<0>(above, below, right_share, bottom_share, unsure);
  const __m256i g = levels<1>(above, below, right_share, bottom_share, unsure);
  return joined(r, g, levels<2>(above, below, right_share, bottom_share, unsure));
}

AVX2 inline void store12(uint8_t* to, __m128i v) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), v);
  const int last = _mm_extract_epi32(v, 2);
  memcpy(to + 8, &last, 4);
}

// 8 pixels in the order 0 1 2 3 | 4 5 6 7, three bytes each.
AVX2 inline void store24(uint8_t* to, __m256i rgb) {
  const __m256i close = _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,  //
                                         0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  rgb = _mm256_shuffle_epi8(rgb, close);
  store12(to, _mm256_castsi256_si128(rgb));
  store12(to + 12, _mm256_extracti128_si256(rgb, 1));
}

AVX2 int64_t warp(const WarpLine& line, int64_t begin, int64_t end, uint8_t* out, Unsure& unsure) {
  const __m256i stride = _mm256_set1_epi32(static_cast<int32_t>(line.stride));
  const uint8_t *const pixels = line.pixels, *const next = pixels + line.below;
  Places x(line.x + line.x_step * begin, line.x_step), y(line.y + line.y_step * begin, line.y_step);
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    const __m256i columns = x.whole(), rows = y.whole();
    const __m256i bytes = _mm256_add_epi32(columns, _mm256_add_epi32(columns, columns));
    alignas(32) int32_t at[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(at), _mm256_add_epi32(_mm256_mullo_epi32(rows, stride), bytes));
    const __m256 right_share = x.share(), bottom_share = y.share();
    const Pair above(pixels, at), below(next, at);
    __m256 odd = _mm256_setzero_ps();
    __m256i rgb = rgb_of(above, below, right_share, bottom_share, odd);
    if (_mm256_movemask_ps(odd) && !line.exact && !eight_exactly(line, i, columns, rows, above, below, rgb)) {
      for (int k = 0; k < 8; k++) {
        unsure.add(i + k);
      }
    }
    store24(out + 3 * i, _mm256_permute4x64_epi64(rgb, 0xd8));
    x.move_on();
    y.move_on();
  }
  return i;
}

// 4 pixels under a perspective map in float64, as the reference has them.
struct Seen {
  __m256d x, y;
  int touched;  // bits of the pixels that show the image, if only in part
  int between;  // of those between four pixels from which 8 bytes may be read; the others are put on the image's first

  AVX2 inline Seen(const PerspectiveLine& line, __m256d middles) {
    const __m256d half = _mm256_set1_pd(0.5), zero = _mm256_setzero_pd(), before = _mm256_set1_pd(-1.0);
    const __m256d depth = sum_of(line.depth, middles);
    x = _mm256_sub_pd(_mm256_div_pd(sum_of(line.across, middles), depth), half);
    y = _mm256_sub_pd(_mm256_div_pd(sum_of(line.down, middles), depth), half);
    auto below = [&](double width, double height) AVX2 {
      return _mm256_and_pd(_mm256_cmp_pd(x, _mm256_set1_pd(width), _CMP_LT_OQ),
                           _mm256_cmp_pd(y, _mm256_set1_pd(height), _CMP_LT_OQ));
    };
    const __m256d some = _mm256_and_pd(_mm256_cmp_pd(x, before, _CMP_GT_OQ), _mm256_cmp_pd(y, before, _CMP_GT_OQ));
    touched = _mm256_movemask_pd(_mm256_and_pd(some, below(line.width, line.height)));
    const __m256d from = _mm256_and_pd(_mm256_cmp_pd(x, zero, _CMP_GE_OQ), _mm256_cmp_pd(y, zero, _CMP_GE_OQ));
    const __m256d quick = _mm256_and_pd(from, below(line.width - 2.0, line.height - 1.0));
    between = _mm256_movemask_pd(quick);
    x = _mm256_and_pd(x, quick);
    y = _mm256_and_pd(y, quick);
  }
};

// Places of 8 pixels on one axis, in float64.
struct WholeAndShare {
  __m128i first, second;
  __m256i whole;
  __m256 share;

  AVX2 inline WholeAndShare(__m256d a, __m256d b) {
    first = _mm256_cvttpd_epi32(a);
    second = _mm256_cvttpd_epi32(b);
    whole = both(first, second);
    const __m128 low = _mm256_cvtpd_ps(_mm256_sub_pd(a, _mm256_cvtepi32_pd(first)));
    const __m128 high = _mm256_cvtpd_ps(_mm256_sub_pd(b, _mm256_cvtepi32_pd(second)));
    share = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
  }
};

// 8 pixels, of which some lie between four of the image: these are right.
AVX2 inline __m256i eight_seen(const PerspectiveLine& line, const Seen& a, const Seen& b) {
  const WholeAndShare x(a.x, b.x), y(a.y, b.y);
  const __m256i stride = _mm256_set1_epi32(static_cast<int32_t>(line.stride));
  const __m256i bytes = _mm256_add_epi32(x.whole, _mm256_add_epi32(x.whole, x.whole));
  alignas(32) int32_t at[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(at), _mm256_add_epi32(_mm256_mullo_epi32(y.whole, stride), bytes));
  const Pair above(line.pixels, at), below(line.pixels + line.stride, at);
  __m256 odd = _mm256_setzero_ps();
  const __m256i rgb = rgb_of(above, below, x.share, y.share, odd);
  if (!(_mm256_movemask_ps(odd) & (a.between | b.between << 4))) {
    return rgb;
  }
  return rgb_exactly(above, below, Exactly(Shares(a.x, x.first), Shares(a.y, y.first)),
                     Exactly(Shares(b.x, x.second), Shares(b.y, y.second)));
}

AVX2 int64_t perspective(const PerspectiveLine& line, int64_t count, uint8_t* out, Unsure& unsure) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i filled = _mm256_set1_epi32(line.fill * 0x010101);
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256d middles = _mm256_set1_pd(line.middle + static_cast<double>(i));
    const Seen a(line, _mm256_add_pd(middles, _mm256_setr_pd(0, 1, 2, 3)));
    const Seen b(line, _mm256_add_pd(middles, _mm256_setr_pd(4, 5, 6, 7)));
    const int between = a.between | b.between << 4, rim = (a.touched | b.touched << 4) & ~between;
    __m256i rgb = filled;
    if (between) {
      const __m256i inside = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(between), bits), bits);
      rgb = _mm256_blendv_epi8(filled, eight_seen(line, a, b), inside);
    }
    store24(out + 3 * i, rgb);
    for (int left = rim; left; left &= left - 1) {
      unsure.add(i + __builtin_ctz(static_cast<unsigned>(left)));
    }
  }
  return i;
}

}  // namespace

int64_t warp_avx2(const WarpLine& line, int64_t begin, int64_t end, uint8_t* out, Unsure& unsure) {
  return end - begin >= 8 && uses_avx2() ? warp(line, begin, end, out, unsure) : begin;
}

int64_t perspective_avx2(const PerspectiveLine& line, int64_t count, uint8_t* out, Unsure& unsure) {
  return count >= 8 && uses_avx2() ? perspective(line, count, out, unsure) : 0;
}

}  // namespace greenload

#else

namespace greenload {

int64_t warp_avx2(const WarpLine&, int64_t begin, int64_t, uint8_t*, Unsure&) { return begin; }

int64_t perspective_avx2(const PerspectiveLine&, int64_t, uint8_t*, Unsure&) { return 0; }

}  // namespace greenload

#endif
