// The rows of an image that a resize reads, each with kSlack readable bytes behind it: where they lie, or copies of
// them; or made as they are needed, and kept for as long as they are.
#pragma once
#include <cstdint>
#include <vector>

#include "buffer.h"
#include "image.h"

namespace greenload {

class HeldRows {
 public:
  // Of each output the first row that it reads and the one behind the last; neither ever falls. Only rows that are to
  // be made need it.
  struct Need {
    std::vector<int64_t> first, stop;
  };

  // `need` must stay.
  void begin(const Image& image, const Need& need);
  // Before an output reads its rows.
  void reach(int64_t output) {
    if (image_.source && need_->stop[output] > made_) {
      make(output);
    }
  }
  // After the last output: makes the image's last row, so that damage in rows that no output reads is found.
  void finish();
  const uint8_t* row(int64_t y) const {
    return y < kept_from_ ? image_.row(y) : kept_ + (y - kept_from_) % slots_ * pitch_;
  }
  void trim(size_t limit);

 private:
  void copy();
  void make(int64_t output);
  uint8_t* place(int64_t y);

  Image image_;
  const Need* need_ = nullptr;
  int64_t kept_from_ = 0;  // rows from here on lie in memory_
  int64_t slots_ = 1, pitch_ = 0;
  const uint8_t* kept_ = nullptr;
  int64_t made_ = 0;  // rows in front of it are made, or aren't needed
  std::vector<uint8_t*> places_;
  Buffer memory_;
};

// Whether the loops over rows may read a row's slack; else it is copied.
bool has_slack(const Image& image, int64_t y);

}  // namespace greenload
