#include "weighted_sum.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>

#include "failure.h"
#include "rows.h"

namespace greenload {

namespace {

// Rows `y` from value `i` on.
void sum_row(const std::vector<Term>& terms, int64_t y, int64_t i, int64_t values, uint8_t* out) {
  for (; i < values; i++) {
    int sum = 1 << (kSumBits - 1);
    for (const Term& term : terms) {
      sum += term.image.row(y)[i] * term.weight;
    }
    out[i] = static_cast<uint8_t>(sum >> kSumBits);
  }
}

#if defined(__x86_64__)
// Returns how many values are done.
__attribute__((target("avx2"))) int64_t sum_row_avx2(const std::vector<Term>& terms, int64_t y, int64_t values,
                                                     uint8_t* out) {
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  int64_t i = 0;
  for (; i + 32 <= values; i += 32) {
    __m256i sums[4];
    for (__m256i& sum : sums) {
      sum = _mm256_set1_epi32(1 << (kSumBits - 1));
    }
    for (const Term& term : terms) {
      const uint8_t* from = term.image.row(y) + i;
      const __m256i weight = _mm256_set1_epi32(term.weight);
      for (int k = 0; k < 4; k++) {
        const __m256i levels = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8 * k)));
        sums[k] = _mm256_add_epi32(sums[k], _mm256_mullo_epi32(levels, weight));
      }
    }
    for (__m256i& sum : sums) {
      sum = _mm256_srli_epi32(sum, kSumBits);
    }
    const __m256i packed =
        _mm256_packus_epi16(_mm256_packus_epi32(sums[0], sums[1]), _mm256_packus_epi32(sums[2], sums[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_permutevar8x32_epi32(packed, in_order));
  }
  return i;
}
#else
int64_t sum_row_avx2(const std::vector<Term>&, int64_t, int64_t, uint8_t*) { return 0; }
#endif

}  // namespace

int sum_weight(double weight) {
  const double whole = weight * (1 << kSumBits);
  if (!(weight >= 0.0 && weight <= 1.0) || whole != std::floor(whole)) {
    fail(GL_BAD_CALL, "%g is no weight from 0 to 1 of %d bits", weight, kSumBits);
  }
  return static_cast<int>(whole);
}

void check_weights(const std::vector<Term>& terms) {
  int64_t sum = 0;
  for (const Term& term : terms) {
    sum += term.weight;
  }
  if (sum != 1 << kSumBits) {
    fail(GL_BAD_CALL, "weights of a sum that are %g together", std::ldexp(static_cast<double>(sum), -kSumBits));
  }
}

void weighted_sum(const std::vector<Term>& terms, uint8_t* out) {
  const Image& first = terms[0].image;
  const int64_t values = first.row_values();
  for (int64_t y = 0; y < first.height; y++, out += values) {
    const int64_t done = uses_avx2() ? sum_row_avx2(terms, y, values, out) : 0;
    sum_row(terms, y, done, values, out);
  }
}

}  // namespace greenload
