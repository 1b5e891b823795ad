#include "own_jpeg.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>

#include "failure.h"
#include "rows.h"

namespace greenload {

namespace {

// Other versions upsample chroma in other ways: jdsample.c, h1v2_fancy_upsample.
#if defined(LIBJPEG_TURBO_VERSION_NUMBER) && LIBJPEG_TURBO_VERSION_NUMBER >= 2001000
constexpr bool kGivesItsPixels = true;
#else
constexpr bool kGivesItsPixels = false;
#endif

// Without vectors libjpeg is quicker, which has some for more processors. GREENLOAD_NATIVE_JPEG is for tests and for
// measuring.
bool wants_libjpeg() {
  const char* value = getenv("GREENLOAD_NATIVE_JPEG");
  return value && *value ? strcmp(value, "libjpeg") == 0 : !uses_avx2();
}

bool uses_libjpeg() {
  static const bool uses = !kGivesItsPixels || wants_libjpeg();
  return uses;
}

std::atomic<int64_t> own_count{0}, libjpeg_count{0};

}  // namespace

gl_jpeg_count OwnJpegDecoder::counts() { return {own_count, libjpeg_count}; }

Image OwnJpegDecoder::open(const uint8_t* file, size_t length, const Choose& choose) {
  if (uses_libjpeg() || !start(file, length, choose)) {
    libjpeg_count.fetch_add(1, std::memory_order_relaxed);
    progressive_.trim(0);  // libjpeg holds the coefficients once more
    return libjpeg_.open(file, length, choose);
  }
  own_count.fetch_add(1, std::memory_order_relaxed);
  file_ = file;
  length_ = length;
  made_ = 0;
  given_up_ = false;
  planes_.open(strips_.planes(), window_);
  pitch = planes_.pitch;
  offset = planes_.offset;
  return made_by(this, window_.height, window_.width);
}

bool OwnJpegDecoder::start(const uint8_t* file, size_t length, const Choose& choose) {
  headers_.begin(file, length);
  JpegScan scan;
  if (headers_.next(&scan) != JpegHeaders::kScan) {
    return false;
  }
  const JpegFrame& frame = headers_.frame();
  try {
    window_ = choose(frame.height, frame.width);
    check_window(window_, frame.height, frame.width);
  } catch (const Failure&) {
    return false;  // the call's fault, or that of a file whose sides are damaged: libjpeg tells
  }
  strips_.set(frame, window_);
  return frame.progressive ? progressive_.read(&headers_, &scan, strips_)
                           : sequential_.open(headers_, scan, strips_);
}

// Has the samples ready that a row of pixels is made of.
bool OwnJpegDecoder::make_strips(int64_t y) {
  for (const int64_t last = strips_.mcu_row_of(y); made_ <= last; made_++) {
    if (headers_.frame().progressive) {
      progressive_.row(strips_);
    } else if (!sequential_.row(strips_)) {
      return false;
    }
  }
  return true;
}

void OwnJpegDecoder::give_up() {
  given_up_ = true;
  libjpeg_count.fetch_add(1, std::memory_order_relaxed);
  libjpeg_.open(file_, length_, [this](int64_t, int64_t) { return window_; });
}

void OwnJpegDecoder::make(int64_t first, int64_t count, uint8_t* const* places) {
  for (int64_t i = 0; i < count; i++) {
    if (!given_up_ && !make_strips(window_.top + first + i)) {
      give_up();
    }
    if (!given_up_) {
      planes_.make(first + i, 1, places + i);
      continue;
    }
    uint8_t* row = row_.bytes(static_cast<size_t>(libjpeg_.pitch));
    libjpeg_.make(first + i, 1, &row);
    memcpy(places[i], row + libjpeg_.offset, static_cast<size_t>(pitch));
  }
}

void OwnJpegDecoder::trim(size_t limit) {
  strips_.trim(limit);
  sequential_.trim(limit);
  progressive_.trim(limit);
  planes_.trim(limit);
  if (row_.size() > limit) {
    row_.release();
  }
}

}  // namespace greenload
