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

struct Axis {
  int64_t in = 0, out = 0;
  bool antialias = false;
  int taps = 0;                 // of each output; those past its own count are 0
  std::vector<int64_t> start;   // [out], the first input
  std::vector<double> weights;  // [out, taps]

  // Computed anew only where it differs from the last.
  void set(int64_t in, int64_t out, bool antialias);
};

struct Q14Axis {
  int64_t out = 0;
  int taps = 0;
  std::vector<int32_t> start;    // [out]
  std::vector<int16_t> weights;  // [out, taps]; each row sums to kQ14

  // Taps are filled up with zeros to a multiple of `multiple`.
  void set(const Axis& axis, int multiple);
};

// Weights that sum to 1, as Q14 that sum to exactly kQ14.
void quantise(const double* weights, int count, int16_t* q14);

// exp(−(i / sigma)² / 2) at `taps` whole places around 0, normalised.
void gaussian(double sigma, int taps, std::vector<double>& weights);

}  // namespace greenload
