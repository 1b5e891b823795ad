// Several images of one size as one: GL_SUM.
#pragma once
#include <vector>

#include "image.h"

namespace greenload {

// What weights are multiples of: 2⁻¹⁶. Sums of levels take 24 bits then.
constexpr int kSumBits = 16;

// An image of uint8, and how many 2⁻¹⁶ it weighs.
struct Term {
  Image image;
  int weight;
};

// A weight of a sum in units of 2⁻¹⁶. Throws a Failure where it isn't from 0 to 1, or no multiple.
int sum_weight(double weight);
// Throws a Failure where the weights of a sum aren't 1 together.
void check_weights(const std::vector<Term>& terms);

// Each value the weighted sum of the images' values, rounded half up; `out` lies over none of them. Weights are 1
// together.
void weighted_sum(const std::vector<Term>& terms, uint8_t* out);

}  // namespace greenload
