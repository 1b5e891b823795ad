// One pixel of a map of places: between four of the image.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "image.h"
#include "values.h"
#include "warp.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace greenload {

inline uint8_t rounded(double value, const uint8_t*) { return as_uint8(value + 0.5); }
inline float rounded(double value, const float*) { return static_cast<float>(value); }

// Where an output pixel's centre lies in the input, counted from the centre of its first pixel.
struct Place {
  double x, y;
};

// What each of the four pixels around a place counts, as the reference has it.
struct Shares {
  int64_t left, top;
  double of[4];

  explicit Shares(Place place) {
    left = place.x < 0.0 ? -1 : static_cast<int64_t>(place.x);
    top = place.y < 0.0 ? -1 : static_cast<int64_t>(place.y);
    const double l = static_cast<double>(left), t = static_cast<double>(top);
    const double left_share = 1.0 - (place.x - l), right_share = 1.0 - (l + 1.0 - place.x);
    const double top_share = 1.0 - (place.y - t), bottom_share = 1.0 - (t + 1.0 - place.y);
    of[0] = left_share * top_share;
    of[1] = right_share * top_share;
    of[2] = left_share * bottom_share;
    of[3] = right_share * bottom_share;
  }
};

// One pixel, wherever it lies.
template <class T>
void anywhere(const Image& in, Place place, double fill, T* out) {
  // What is no number lies nowhere.
  if (!(place.x > -1.0 && place.x < static_cast<double>(in.width) && place.y > -1.0 &&
        place.y < static_cast<double>(in.height))) {
    std::fill(out, out + in.channels, rounded(fill, out));
    return;
  }
  const Shares shares(place);
  const T* pixels[4];
  for (int k = 0; k < 4; k++) {
    const int64_t px = shares.left + (k & 1), py = shares.top + (k >> 1);
    const bool inside = px >= 0 && px < in.width && py >= 0 && py < in.height;
    pixels[k] = inside ? reinterpret_cast<const T*>(in.row(py)) + px * in.channels : nullptr;
  }
  for (int c = 0; c < in.channels; c++) {
    double total = 0.0;
    for (int k = 0; k < 4; k++) {
      total += shares.of[k] * (pixels[k] ? static_cast<double>(pixels[k][c]) : fill);
    }
    out[c] = rounded(total, out);
  }
}

// Three levels as a vector of floats, and back; the fourth is the next pixel's.
typedef float Four __attribute__((vector_size(16)));

#if defined(__x86_64__)
inline __m128i widened(int32_t bytes) {
  const __m128i zero = _mm_setzero_si128();
  return _mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero), zero);
}

inline int32_t bytes_of(const uint8_t* from) {
  int32_t bytes;
  memcpy(&bytes, from, 4);
  return bytes;
}

// Of a pixel's right neighbour, without reading behind it.
inline int32_t bytes_behind(const uint8_t* from) {
  return static_cast<int32_t>(static_cast<uint32_t>(bytes_of(from + 2)) >> 8);
}

inline Four levels(const uint8_t* from) { return _mm_cvtepi32_ps(widened(bytes_of(from))); }
inline Four levels_behind(const uint8_t* from) { return _mm_cvtepi32_ps(widened(bytes_behind(from))); }

inline void store(__m128i whole, uint8_t* to) {
  const __m128i words = _mm_packs_epi32(whole, whole);
  const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  memcpy(to, &bytes, 3);
}

// One pixel in float64, between four of the image.
inline void between_four(const Image& in, Place place, uint8_t* out) {
  const Shares shares(place);
  const uint8_t *above = in.row(shares.top) + 3 * shares.left, *below = above + in.stride;
  const int32_t bytes[4] = {bytes_of(above), bytes_behind(above), bytes_of(below), bytes_behind(below)};
  __m128d first = _mm_setzero_pd(), last = first;  // two channels, and the third
  for (int k = 0; k < 4; k++) {
    const __m128i whole = widened(bytes[k]);
    const __m128d share = _mm_set1_pd(shares.of[k]);
    first = _mm_add_pd(first, _mm_mul_pd(share, _mm_cvtepi32_pd(whole)));
    last = _mm_add_pd(last, _mm_mul_pd(share, _mm_cvtepi32_pd(_mm_unpackhi_epi64(whole, whole))));
  }
  const __m128d half = _mm_set1_pd(0.5);
  store(_mm_unpacklo_epi64(_mm_cvttpd_epi32(_mm_add_pd(first, half)), _mm_cvttpd_epi32(_mm_add_pd(last, half))), out);
}

// The levels of values that were raised by a half; whether they are sure.
inline bool store(Four raised, uint8_t* to) {
  const __m128i whole = _mm_cvttps_epi32(raised);
  store(whole, to);
  const __m128 place = _mm_sub_ps(_mm_sub_ps(raised, _mm_cvtepi32_ps(whole)), _mm_set1_ps(0.5f));
  const __m128 distance = _mm_andnot_ps(_mm_set1_ps(-0.0f), place);
  return (_mm_movemask_ps(_mm_cmpgt_ps(distance, _mm_set1_ps(kSureLevels))) & 7) == 0;
}
#else
inline void between_four(const Image& in, Place place, uint8_t* out) { anywhere(in, place, 0.0, out); }

inline Four levels(const uint8_t* from) {
  return Four{static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2]), 0.0f};
}
inline Four levels_behind(const uint8_t* from) { return levels(from + 3); }

inline bool store(Four raised, uint8_t* to) {
  bool sure = true;
  for (int k = 0; k < 3; k++) {
    to[k] = static_cast<uint8_t>(raised[k]);
    sure = sure && std::fabs(raised[k] - static_cast<float>(to[k]) - 0.5f) <= kSureLevels;
  }
  return sure;
}
#endif

// RGB levels through a map that does a line of up to kLineColumns at a time.
template <class Map>
void in_lines(const Image& in, const Map& map, uint8_t* out) {
  for (int64_t row = 0; row < in.height; row++) {
    for (int64_t first = 0; first < in.width; first += kLineColumns) {
      const int64_t count = std::min<int64_t>(kLineColumns, in.width - first);
      map.line(row, first, count, out);
      out += 3 * count;
    }
  }
}

}  // namespace greenload
