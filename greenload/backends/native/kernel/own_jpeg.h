// Decodes windows of the usual JPEGs without libjpeg, to the pixels that it gives. Files of other kinds, and damaged
// ones as soon as damage shows, are libjpeg's: it decodes them or says what is wrong.
#pragma once
#include <cstdint>

#include "abi.h"
#include "buffer.h"
#include "decode.h"
#include "jpeg_headers.h"
#include "planes.h"
#include "progressive.h"
#include "sequential.h"
#include "strips.h"

namespace greenload {

class OwnJpegDecoder : public RowSource {
 public:
  // `libjpeg` decodes what this doesn't.
  explicit OwnJpegDecoder(JpegDecoder* libjpeg) : libjpeg_(*libjpeg) {}

  // The pixels of a JPEG in a window, as rows to be made: the same as of the whole, cut out. The file must stay.
  Image open(const uint8_t* file, size_t length, const Choose& choose);
  void make(int64_t first, int64_t count, uint8_t* const* places) override;
  void trim(size_t limit);
  // gl_jpegs
  static gl_jpeg_count counts();

 private:
  bool start(const uint8_t* file, size_t length, const Choose& choose);
  bool make_strips(int64_t y);
  void give_up();

  JpegDecoder& libjpeg_;
  JpegHeaders headers_;
  Strips strips_;
  SequentialScan sequential_;
  ProgressiveScans progressive_;
  PlanesDecoder planes_;
  const uint8_t* file_ = nullptr;
  size_t length_ = 0;
  Window window_ = {};
  int64_t made_ = 0;      // rows of MCUs
  bool given_up_ = false;  // half way: then libjpeg makes the rows
  Buffer row_;
};

}  // namespace greenload
