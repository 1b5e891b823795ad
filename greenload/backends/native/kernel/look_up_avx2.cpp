#include "look_up.h"

#include "rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

namespace greenload {

namespace {

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
  constexpr int64_t kWorth = 256;  // with fewer the tables' parts would cost more than they save
  if (!uses_avx2() || values < kWorth || (count != 1 && count != 3)) {
    return 0;
  }
  return count == 1 ? look_up_one(in, out, values, tables) : look_up_rgb(in, out, values, tables);
}

}  // namespace greenload

#else

namespace greenload {

int64_t look_up_avx2(const uint8_t*, uint8_t*, int64_t, const uint8_t*, int) { return 0; }

}  // namespace greenload

#endif
