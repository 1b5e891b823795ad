#include "weighted_sum.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>

#include "failure.h"
#include "rows.h"

namespace greenload {

namespace {

int whole_weight(double weight) {
  const double whole = weight * (1 << kSumBits);
  if (!(weight >= 0.0 && weight <= 1.0) || whole != std::floor(whole)) {
    fail(GL_BAD_CALL, "%g is no weight from 0 to 1 of %d bits", weight, kSumBits);
  }
  return static_cast<int>(whole);
}

}  // namespace

void WeightedSum::fork(Image& image, Buffer& memory) {
  keep(memory);
  image.writable = false;
  forked_ = image;
  weight_ = 0;
  terms_.clear();
}

void WeightedSum::add(Image& image, double weight, Buffer& memory) {
  if (image.height != forked_.height || image.width != forked_.width || image.channels != forked_.channels) {
    fail(GL_BAD_CALL, "a sum of images of %lld × %lld and %lld × %lld pixels", static_cast<long long>(forked_.height),
         static_cast<long long>(forked_.width), static_cast<long long>(image.height),
         static_cast<long long>(image.width));
  }
  if (image.data == forked_.data && image.stride == forked_.stride) {  // no step of the chain changed it
    weight_ += whole_weight(weight);
  } else {
    terms_.push_back({image, whole_weight(weight)});
    keep(memory);
  }
  image = forked_;
}

bool WeightedSum::end(Image& image, double weight) {
  int64_t all = weight_ += whole_weight(weight);
  for (const Term& term : terms_) {
    all += term.weight;
  }
  if (all != 1 << kSumBits) {
    fail(GL_BAD_CALL, "weights of a sum that are %g together", std::ldexp(static_cast<double>(all), -kSumBits));
  }
  image = forked_;
  if (weight_) {
    terms_.push_back({forked_, static_cast<int>(weight_)});
  }
  return weight_ != 1 << kSumBits;
}

void WeightedSum::write(uint8_t* out) const {
  for (int64_t y = 0; y < forked_.height; y++, out += forked_.row_values()) {
    sum_row(y, uses_avx2() ? sum_row_avx2(y, out) : 0, out);
  }
}

void WeightedSum::keep(Buffer& memory) {
  if (kept_ == memory_.size()) {
    memory_.emplace_back();
  }
  memory.swap(memory_[kept_++]);
}

void WeightedSum::trim(size_t limit) {
  size_t sum = 0;
  for (const Buffer& buffer : memory_) {
    sum += buffer.size();
  }
  if (sum > limit) {
    memory_.clear();
  }
}

// From value `i` on.
void WeightedSum::sum_row(int64_t y, int64_t i, uint8_t* out) const {
  for (; i < forked_.row_values(); i++) {
    int sum = 1 << (kSumBits - 1);
    for (const Term& term : terms_) {
      sum += term.image.row(y)[i] * term.weight;
    }
    out[i] = static_cast<uint8_t>(sum >> kSumBits);
  }
}

// Returns how many values are done.
#if defined(__x86_64__)
__attribute__((target("avx2"))) int64_t WeightedSum::sum_row_avx2(int64_t y, uint8_t* out) const {
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const int64_t values = forked_.row_values();
  int64_t i = 0;
  for (; i + 32 <= values; i += 32) {
    __m256i sums[4];
    for (__m256i& sum : sums) {
      sum = _mm256_set1_epi32(1 << (kSumBits - 1));
    }
    for (const Term& term : terms_) {
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
int64_t WeightedSum::sum_row_avx2(int64_t, uint8_t*) const { return 0; }
#endif

}  // namespace greenload
