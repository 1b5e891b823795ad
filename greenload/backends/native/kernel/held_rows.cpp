#include "held_rows.h"

#include <algorithm>
#include <cstring>

namespace greenload {

namespace {

// Rows that are made at a time: few, so that they lie in the nearest cache.
constexpr int64_t kAtATime = 16;

int64_t with_slack(int64_t bytes) { return (bytes + static_cast<int64_t>(kSlack) + 63) / 64 * 64; }

}  // namespace

bool has_slack(const Image& image, int64_t y) {
  return image.end - image.row(y) >= image.row_bytes() + static_cast<int64_t>(kSlack);
}

void HeldRows::begin(const Image& image, const Need& need) {
  image_ = image;
  need_ = &need;
  if (!image.source) {
    return copy();
  }
  int64_t most = 0;
  for (size_t o = 0; o < need.first.size(); o++) {
    most = std::max(most, need.stop[o] - need.first[o]);
  }
  kept_from_ = made_ = 0;
  slots_ = std::min(image.height, most + kAtATime);
  pitch_ = with_slack(image.source->pitch);
  places_.resize(static_cast<size_t>(slots_));
  memory_.bytes(static_cast<size_t>(pitch_ * slots_ + kUnaligned));
  kept_ = place(0) + image.source->offset;
}

uint8_t* HeldRows::place(int64_t y) { return memory_.bytes(0) + kUnaligned + y % slots_ * pitch_; }

// Rows that end too near the end of readable memory.
void HeldRows::copy() {
  kept_from_ = image_.height;
  while (kept_from_ > 0 && !has_slack(image_, kept_from_ - 1)) {
    kept_from_--;
  }
  slots_ = std::max<int64_t>(1, image_.height - kept_from_);
  pitch_ = with_slack(image_.row_bytes());
  uint8_t* copies = memory_.bytes(static_cast<size_t>(pitch_ * slots_));
  for (int64_t y = kept_from_; y < image_.height; y++) {
    memcpy(copies + pitch_ * (y - kept_from_), image_.row(y), image_.row_bytes());
  }
  kept_ = copies;
}

// The rows of an output, and of those after it as many as there is room for; none that no output reads.
void HeldRows::make(int64_t output) {
  const int64_t outputs = static_cast<int64_t>(need_->first.size()), stop = need_->first[output] + slots_;
  int64_t first = made_, count = 0;
  auto flush = [&] {
    if (count) {
      image_.source->make(first, count, places_.data());
    }
    count = 0;
  };
  for (int64_t o = output; o < outputs && need_->stop[o] <= stop; o++) {
    if (need_->first[o] > made_) {
      flush();
      made_ = need_->first[o];
    }
    if (!count) {
      first = made_;
    }
    for (; made_ < need_->stop[o]; made_++) {
      places_[count++] = place(made_);
    }
  }
  flush();
}

void HeldRows::finish() {
  if (image_.source && made_ < image_.height) {
    made_ = image_.height;
    uint8_t* const last = place(made_ - 1);
    image_.source->make(made_ - 1, 1, &last);
  }
}

void HeldRows::trim(size_t limit) {
  if (memory_.size() > limit) {
    memory_.release();
  }
}

}  // namespace greenload
