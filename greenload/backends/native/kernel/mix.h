// Two images of a batch as one: MixUp and CutMix.
#pragma once
#include "image.h"

namespace greenload {

// What weights are multiples of: 2⁻¹². Sums of levels are exact then.
constexpr int kWeightBits = 12;

// `weight` of each value and 1 − `weight` of the other image's; inside `box` the other image alone. Levels are rounded
// half up; floats are computed in float32. All three lie without gaps, and `out` over neither of the others.
void mix(const Image& in, const uint8_t* other, double weight, const Window& box, uint8_t* out);

}  // namespace greenload
