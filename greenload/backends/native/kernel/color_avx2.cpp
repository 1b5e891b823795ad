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

// A table of 256 levels for look-ups in its 16 parts of 16. A part is at hand as its difference, by exclusive or, from
// the part before it in its half of the table: so a level has the differences of its own part and of all before it, and
// which parts these are is told by the sign of the level less the part's first.
struct Parts {
  alignas(32) uint8_t differences[256];

  explicit Parts(const uint8_t* table) {
    for (int v = 0; v < 256; v++) {
      differences[v] = static_cast<uint8_t>(v % 128 < 16 ? table[v] : table[v] ^ table[v - 16]);
    }
  }

  AVX2 inline __m256i part(int k) const {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(differences + 16 * k)));
  }

  AVX2 inline __m256i look_up(__m256i low) const {
    const __m256i sixteen = _mm256_set1_epi8(16);
    __m256i high = _mm256_xor_si256(low, _mm256_set1_epi8(-128));
    __m256i found = _mm256_shuffle_epi8(part(0), low), found_high = _mm256_shuffle_epi8(part(8), high);
    for (int k = 1; k < 8; k++) {
      low = _mm256_subs_epi8(low, sixteen);
      high = _mm256_subs_epi8(high, sixteen);
      found = _mm256_xor_si256(found, _mm256_shuffle_epi8(part(k), low));
      found_high = _mm256_xor_si256(found_high, _mm256_shuffle_epi8(part(k + 8), high));
    }
    return _mm256_xor_si256(found, found_high);
  }
};

AVX2 inline __m256i load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

AVX2 inline void store(uint8_t* to, __m256i v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }

AVX2 int64_t look_up_one(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* table) {
  const Parts parts(table);
  int64_t i = 0;
  for (; i + 64 <= values; i += 64) {
    const __m256i first = parts.look_up(load(in + i)), second = parts.look_up(load(in + i + 32));
    store(out + i, first);
    store(out + i + 32, second);
  }
  return i;
}

// Where the bytes of a channel are in three vectors that hold 16 pixels in each half, and those of a vector in the
// channels. What is negative isn't there.
struct Interleaving {
  alignas(32) int8_t channel[3][3][32], vector[3][3][32];  // [channel, vector, byte], [vector, channel, byte]

  constexpr Interleaving() : channel(), vector() {
    for (int s = 0; s < 3; s++) {
      for (int c = 0; c < 3; c++) {
        for (int i = 0; i < 32; i++) {
          const int from = 3 * (i % 16) + c - 16 * s, at = 16 * s + i % 16;
          channel[c][s][i] = static_cast<int8_t>(from >= 0 && from < 16 ? from : -1);
          vector[s][c][i] = static_cast<int8_t>(at % 3 == c ? at / 3 : -1);
        }
      }
    }
  }
};

constexpr Interleaving kInterleaving;

// Of three vectors the bytes at their places, together.
AVX2 inline __m256i collected(const __m256i* vectors, const int8_t (*places)[32]) {
  __m256i sum = _mm256_setzero_si256();
  for (int k = 0; k < 3; k++) {
    const __m256i place = _mm256_load_si256(reinterpret_cast<const __m256i*>(places[k]));
    sum = _mm256_or_si256(sum, _mm256_shuffle_epi8(vectors[k], place));
  }
  return sum;
}

// 16 pixels in each half.
AVX2 int64_t look_up_rgb(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* tables) {
  const Parts parts[3] = {Parts(tables), Parts(tables + 256), Parts(tables + 512)};
  int64_t i = 0;
  for (; i + 96 <= values; i += 96) {
    __m256i vectors[3], channels[3];
    for (int s = 0; s < 3; s++) {
      const uint8_t* from = in + i + 16 * s;
      vectors[s] =
          _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))),
                                  _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 48)), 1);
    }
    for (int c = 0; c < 3; c++) {
      channels[c] = parts[c].look_up(collected(vectors, kInterleaving.channel[c]));
    }
    for (int s = 0; s < 3; s++) {
      const __m256i done = collected(channels, kInterleaving.vector[s]);
      uint8_t* to = out + i + 16 * s;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(done));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 48), _mm256_extracti128_si256(done, 1));
    }
  }
  return i;
}

}  // namespace

int64_t look_up_avx2(const uint8_t* in, uint8_t* out, int64_t values, const uint8_t* tables, int count) {
  if (!uses_avx2() || (count != 1 && count != 3)) {
    return 0;
  }
  return count == 1 ? look_up_one(in, out, values, tables) : look_up_rgb(in, out, values, tables);
}

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
int64_t look_up_avx2(const uint8_t*, uint8_t*, int64_t, const uint8_t*, int) { return 0; }
int64_t scale_avx2(const uint8_t*, float*, int64_t, const float*, const float*) { return 0; }

}  // namespace greenload

#endif
