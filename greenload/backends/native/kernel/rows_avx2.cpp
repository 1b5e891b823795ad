// Here an int32 vector of two pixels is (r g b −, r g b −); a vector of two pixels a|b holds a in its lower half. Four
// pixels are summed at a time, in the vectors p0|p2 and p1|p3: packing these gives p0 p1 | p2 p3.
#include "rows_avx2.h"

#include "buffer.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#define AVX2 __attribute__((target("avx2")))

namespace greenload {

namespace {

constexpr int kLanes = 16;  // int16 values of a vector

AVX2 inline __m256i halves(__m128i low, __m128i high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

AVX2 inline __m128i load16(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
AVX2 inline __m256i load32(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
AVX2 inline void store32(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

// Two weights as _mm256_madd_epi16 takes them.
AVX2 inline __m256i weight_pair(const int16_t* w) {
  return _mm256_set1_epi32(
      static_cast<int>(static_cast<uint16_t>(w[0]) | static_cast<uint32_t>(static_cast<uint16_t>(w[1])) << 16));
}

// Levels × Q14 of four pixels, to 12 values of Q7. Writes 14.
AVX2 inline void emit_q7(int16_t* out, __m256i p02, __m256i p13) {
  const __m256i half = _mm256_set1_epi32(1 << 6);
  const __m256i rgb = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1,  //
                                       0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1);
  p02 = _mm256_srai_epi32(_mm256_add_epi32(p02, half), 7);
  p13 = _mm256_srai_epi32(_mm256_add_epi32(p13, half), 7);
  __m256i packed = _mm256_shuffle_epi8(_mm256_packs_epi32(p02, p13), rgb);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 6), _mm256_extracti128_si256(packed, 1));
}

// Q7 × Q14 of four pixels, to 12 levels. Writes 16 bytes.
AVX2 inline void emit_levels(uint8_t* out, __m256i p02, __m256i p13) {
  const __m256i half = _mm256_set1_epi32(1 << 20);
  const __m128i rgb = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  p02 = _mm256_srai_epi32(_mm256_add_epi32(p02, half), 21);
  p13 = _mm256_srai_epi32(_mm256_add_epi32(p13, half), 21);
  __m256i packed = _mm256_packs_epi32(p02, p13);
  __m128i levels = _mm_packus_epi16(_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(levels, rgb));
}

// What the two kinds of rows differ in: how 4 taps of a pixel are loaded (taps 0 and 1 in pairs by channel in the lower
// half, 2 and 3 in the upper), how 2 taps of one are, and how results are written.
struct Bytes {
  using In = uint8_t;
  using Out = int16_t;
  AVX2 static __m256i four_taps(const uint8_t* from) {
    const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                           6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load16(from)), pairs);
  }
  AVX2 static __m256i two_taps(const uint8_t* first, const uint8_t* second) {
    const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                           0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    __m256i both = halves(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(first)),
                          _mm_loadl_epi64(reinterpret_cast<const __m128i*>(second)));
    return _mm256_shuffle_epi8(both, pairs);
  }
  AVX2 static void emit(int16_t* out, __m256i p02, __m256i p13) { emit_q7(out, p02, p13); }
};

struct Q7 {
  using In = int16_t;
  using Out = uint8_t;
  AVX2 static __m256i pairs() {
    return _mm256_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1,  //
                            0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, -1, -1, -1, -1);
  }
  AVX2 static __m256i four_taps(const int16_t* from) {
    return _mm256_shuffle_epi8(halves(load16(from), load16(from + 6)), pairs());
  }
  AVX2 static __m256i two_taps(const int16_t* first, const int16_t* second) {
    return _mm256_shuffle_epi8(halves(load16(first), load16(second)), pairs());
  }
  AVX2 static void emit(uint8_t* out, __m256i p02, __m256i p13) { emit_levels(out, p02, p13); }
};

template <class Kind>
AVX2 inline void across_two_taps(const typename Kind::In* row, typename Kind::Out* out, const Columns& columns) {
  const int32_t* offset = columns.offset.data();
  const int16_t* weights = columns.spread.data();
  for (int64_t o = 0; o < columns.out; o += 4, offset += 4, weights += 2 * kLanes, out += 12) {
    __m256i p02 = Kind::two_taps(row + offset[0], row + offset[2]);
    __m256i p13 = Kind::two_taps(row + offset[1], row + offset[3]);
    Kind::emit(out, _mm256_madd_epi16(p02, load32(weights)), _mm256_madd_epi16(p13, load32(weights + kLanes)));
  }
}

// One pixel from blocks of 4 taps. A loop whose length is known only at run time costs twice as much, so the usual
// lengths are compiled in: kBlocks is 0 where they aren't.
template <class Kind, int kBlocks>
AVX2 inline __m256i pixel(const typename Kind::In* from, const int16_t* weights, int blocks) {
  __m256i sum = _mm256_madd_epi16(Kind::four_taps(from), load32(weights));
  for (int b = 1; b < (kBlocks ? kBlocks : blocks); b++) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(Kind::four_taps(from + 12 * b), load32(weights + kLanes * b)));
  }
  return sum;
}

template <class Kind, int kBlocks>
AVX2 inline void across_blocks(const typename Kind::In* row, typename Kind::Out* out, const Columns& columns) {
  const int blocks = kBlocks ? kBlocks : columns.taps / 4;
  const int32_t* offset = columns.offset.data();
  const int16_t* weights = columns.spread.data();
  const int step = blocks * kLanes;
  for (int64_t o = 0; o < columns.out; o += 4, out += 12, offset += 4, weights += 4 * step) {
    __m256i p0 = pixel<Kind, kBlocks>(row + offset[0], weights, blocks);
    __m256i p1 = pixel<Kind, kBlocks>(row + offset[1], weights + step, blocks);
    __m256i p2 = pixel<Kind, kBlocks>(row + offset[2], weights + 2 * step, blocks);
    __m256i p3 = pixel<Kind, kBlocks>(row + offset[3], weights + 3 * step, blocks);
    __m256i p02 = _mm256_add_epi32(_mm256_permute2x128_si256(p0, p2, 0x20), _mm256_permute2x128_si256(p0, p2, 0x31));
    __m256i p13 = _mm256_add_epi32(_mm256_permute2x128_si256(p1, p3, 0x20), _mm256_permute2x128_si256(p1, p3, 0x31));
    Kind::emit(out, p02, p13);
  }
}

template <class Kind>
AVX2 inline void across(const typename Kind::In* row, typename Kind::Out* out, const Columns& columns) {
  if (columns.taps == 2) {
    return across_two_taps<Kind>(row, out, columns);
  }
  if (columns.taps == 4) {
    return across_blocks<Kind, 1>(row, out, columns);
  }
  if (columns.taps == 8) {
    return across_blocks<Kind, 2>(row, out, columns);
  }
  across_blocks<Kind, 0>(row, out, columns);
}

AVX2 void across_bytes(const uint8_t* row, int16_t* out, const Columns& columns) { across<Bytes>(row, out, columns); }
AVX2 void across_q7(const int16_t* row, uint8_t* out, const Columns& columns) { across<Q7>(row, out, columns); }

AVX2 inline __m256i q7_of(const uint8_t* from) {
  return _mm256_slli_epi16(_mm256_cvtepu8_epi16(load16(from)), kQ7Bits);
}

AVX2 void down_bytes(const uint8_t* const* rows, const int16_t* weights, int pairs, int16_t* out, int64_t values) {
  if (pairs == 1) {  // a + (b − a) · w
    const __m256i second = _mm256_set1_epi16(static_cast<int16_t>(std::min(32767, weights[1] * 2)));
    for (int64_t i = 0; i < values; i += kLanes) {
      __m256i a = q7_of(rows[0] + i), b = q7_of(rows[1] + i);
      store32(out + i, _mm256_add_epi16(a, _mm256_mulhrs_epi16(_mm256_sub_epi16(b, a), second)));
    }
    return;
  }
  __m256i pair[kMostTaps / 2 + 1];
  for (int k = 0; k < pairs; k++) {
    pair[k] = weight_pair(weights + 2 * k);
  }
  const __m256i half = _mm256_set1_epi32(1 << 6), zero = _mm256_setzero_si256();
  for (int64_t i = 0; i < values; i += 32) {
    __m256i s0 = half, s1 = half, s2 = half, s3 = half;
    for (int k = 0; k < pairs; k++) {
      __m256i a = load32(rows[2 * k] + i), b = load32(rows[2 * k + 1] + i);
      __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
      s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), pair[k]));
      s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), pair[k]));
      s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), pair[k]));
      s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), pair[k]));
    }
    __m256i p = _mm256_packs_epi32(_mm256_srai_epi32(s0, 7), _mm256_srai_epi32(s1, 7));
    __m256i q = _mm256_packs_epi32(_mm256_srai_epi32(s2, 7), _mm256_srai_epi32(s3, 7));
    store32(out + i, _mm256_permute2x128_si256(p, q, 0x20));
    store32(out + i + kLanes, _mm256_permute2x128_si256(p, q, 0x31));
  }
}

// 16 values of rows of Q7 as levels, still int16.
AVX2 inline __m256i sixteen(const int16_t* const* rows, const int16_t* weights, int pairs, int64_t at) {
  __m256i low = _mm256_set1_epi32(1 << 20), high = low;
  for (int k = 0; k < pairs; k++) {
    __m256i a = load32(rows[2 * k] + at), b = load32(rows[2 * k + 1] + at), pair = weight_pair(weights + 2 * k);
    low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), pair));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), pair));
  }
  return _mm256_packs_epi32(_mm256_srai_epi32(low, 21), _mm256_srai_epi32(high, 21));
}

AVX2 inline __m256i thirty_two(const int16_t* const* rows, const int16_t* weights, int pairs, int64_t at) {
  __m256i packed = _mm256_packus_epi16(sixteen(rows, weights, pairs, at), sixteen(rows, weights, pairs, at + kLanes));
  return _mm256_permute4x64_epi64(packed, 0xd8);
}

AVX2 void down_q7(const int16_t* const* rows, const int16_t* weights, int pairs, uint8_t* out, int64_t values) {
  int64_t i = 0;
  for (; i + 32 <= values; i += 32) {
    store32(out + i, thirty_two(rows, weights, pairs, i));
  }
  if (i < values) {  // rows have slack, the result has none
    alignas(32) uint8_t last[32];
    store32(last, thirty_two(rows, weights, pairs, i));
    memcpy(out + i, last, values - i);
  }
}

}  // namespace

const RowLoops kAvx2Loops = {across_bytes, across_q7, down_bytes, down_q7};

// With the instructions for bits that all such processors have, but some simulated ones lack.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("popcnt");
}

void spread_for_avx2(Columns& columns) {
  const int64_t filled = static_cast<int64_t>(columns.offset.size());
  const int taps = columns.taps;
  if (taps == 2) {
    columns.spread.resize(filled / 2 * kLanes);
    for (int64_t o = 0; o < filled; o++) {
      // Pixels 0 and 2 of four in one vector, 1 and 3 in the next.
      int16_t* to = &columns.spread[((o & ~3) / 2 + (o & 1)) * kLanes + (o >> 1 & 1) * 8];
      for (int i = 0; i < 8; i++) {
        to[i] = columns.weights[o * 2 + (i & 1)];
      }
    }
    return;
  }
  columns.spread.resize(filled * taps / 4 * kLanes);
  int16_t* to = columns.spread.data();
  for (int64_t block = 0; block < filled * taps / 4; block++, to += kLanes) {
    const int16_t* from = &columns.weights[block * 4];
    for (int i = 0; i < kLanes; i++) {
      to[i] = from[(i >> 3) * 2 + (i & 1)];
    }
  }
}

}  // namespace greenload

#else

namespace greenload {

const RowLoops kAvx2Loops = kPortableLoops;
bool has_avx2() { return false; }
void spread_for_avx2(Columns&) {}

}  // namespace greenload

#endif
