// Several results of one uint8 image, summed with weights: GL_FORK, GL_ADD, GL_SUM.
#pragma once
#include <deque>
#include <vector>

#include "buffer.h"
#include "image.h"

namespace greenload {

// What weights are multiples of: 2⁻¹⁶. Sums of levels take 24 bits then.
constexpr int kSumBits = 16;

// All throw a Failure where a weight, or all of a sum together, or an image's size is wrong. `memory` is where the last
// step put its result, if it put it anywhere: it is exchanged for other memory, since results stay as they are until
// the next call of `begin`.
class WeightedSum {
 public:
  // Another image begins, whose sums may be several.
  void begin() { kept_ = 0; }
  // The image that chains begin with.
  void fork(Image& image, Buffer& memory);
  // A chain's result; the image is again the one that chains begin with.
  void add(Image& image, double weight, Buffer& memory);
  // The same of the image that chains begin with, to its weight; whether there is anything to `write`.
  bool end(Image& image, double weight);
  // The sum, rounded half up.
  void write(uint8_t* out) const;
  // Gives back memory above a limit.
  void trim(size_t limit);

 private:
  struct Term {
    Image image;
    int weight;  // how many 2⁻¹⁶
  };
  void keep(Buffer& memory);
  void sum_row(int64_t y, int64_t i, uint8_t* out) const;
  int64_t sum_row_avx2(int64_t y, uint8_t* out) const;

  Image forked_;
  int64_t weight_ = 0;       // of chains that left the image as it was
  std::vector<Term> terms_;  // the others
  std::deque<Buffer> memory_;
  size_t kept_ = 0;  // of it that results are in
};

}  // namespace greenload
