// The weights that resample one axis, as in greenload/stages/reference.py: exact, and in Q14 (1.0 is 1 << 14).
#pragma once
#include <cstdint>
#include <vector>

namespace greenload {

constexpr int kQ14 = 1 << 14;
// Rows between the two axes of a resize are Q7: levels of 0 … 255 fill an int16.
constexpr int kQ7Bits = 7;
// Up to so many taps Q14 keeps a resize within a level of the float64 reference: each weight is off by 2⁻¹⁵ at most, so
// 32 of them by a quarter of a level.
constexpr int kMostTaps = 32;

// One axis of a resize from `in` pixels to `out`, of which those from `first` on, `count` of them, are wanted, and of
// which the input is there from `origin` on.
struct Span {
  int64_t in = 0, out = 0;
  int64_t first = 0, count = 0;
  int64_t origin = 0;
  bool antialias = false;

  // Where the filter is wider than a pixel: where an image doesn't shrink, the two kinds are the same.
  bool wide() const { return antialias && in > out; }
  // Of any output, whether wanted or not.
  double most_taps() const { return wide() ? 2.0 * static_cast<double>(in) / static_cast<double>(out) + 1.0 : 2.0; }
  // The first input that is read, and the one behind the last.
  int64_t begin() const;
  int64_t end() const;
  bool operator==(const Span& other) const {
    return in == other.in && out == other.out && first == other.first && count == other.count &&
           origin == other.origin && antialias == other.antialias;
  }
};

struct Axis {
  Span span;
  int taps = 0;                 // of each output; those past its own number are 0
  std::vector<int64_t> start;   // [count], the first input, from the origin
  std::vector<int64_t> stop;    // [count], the one behind the last; of wide filters
  std::vector<double> weights;  // [count, taps]

  // Computed anew only where it differs from the last.
  void set(const Span& span);
};

struct Q14Axis {
  int64_t count = 0;
  int taps = 0;
  std::vector<int32_t> start;    // [count]
  std::vector<int16_t> weights;  // [count, taps]; each row sums to kQ14

  // Taps are filled up with zeros to a multiple of `multiple`.
  void set(const Axis& axis, int multiple);
};

// Weights that sum to 1, as Q14 that sum to exactly kQ14.
void quantise(const double* weights, int count, int16_t* q14);

// exp(−(i / sigma)² / 2) at `taps` whole places around 0, normalised.
void gaussian(double sigma, int taps, std::vector<double>& weights);

}  // namespace greenload
