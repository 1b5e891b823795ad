// Decoding: JPEG by libjpeg, of a window no more than it needs; and binary PPM, which other backends' decoders hand in.
#pragma once
#include <functional>

#include "buffer.h"
#include "image.h"
#include "jpeg_errors.h"

namespace greenload {

// What is to be decoded of an image of a height and width.
using Choose = std::function<Window(int64_t, int64_t)>;

class JpegDecoder {
 public:
  JpegDecoder();
  ~JpegDecoder();
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  // The pixels of a JPEG in a window: the same as of the whole, cut out. They lie in `memory`, or in `out` where it
  // isn't null and whole rows are decoded: it takes `out_bytes`.
  Image decode(const uint8_t* file, size_t length, const Choose& choose, Buffer& memory, uint8_t* out,
               int64_t out_bytes);

 private:
  // Each returns false where libjpeg gave up, and errors_.reason says why. libjpeg leaves them by longjmp, so they hold
  // nothing that has a destructor.
  bool create();
  bool start(const uint8_t* file, size_t length);
  bool cut(JDIMENSION* left, JDIMENSION* width);
  bool read(JDIMENSION skipped, uint8_t* first, size_t pitch, JDIMENSION rows);
  void stop();
  bool exact_in_parts() const;

  jpeg_decompress_struct info_;
  jpeg_progress_mgr progress_;
  JpegErrors errors_;
};

// The pixels of "P6" with 255 as its largest value, in a window: a view of the file.
Image decode_ppm(const uint8_t* file, size_t length, const Choose& choose);

// Throws unless a window lies inside.
void check_window(const Window& window, int64_t height, int64_t width);

}  // namespace greenload
