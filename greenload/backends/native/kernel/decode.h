// Decoding: JPEG by libjpeg, of a window no more than it needs; and binary PPM, which other backends' decoders hand in.
#pragma once
#include <functional>

#include "buffer.h"
#include "image.h"
#include "jpeg_errors.h"

namespace greenload {

// What is to be decoded of an image of a height and width.
using Choose = std::function<Window(int64_t, int64_t)>;

class JpegDecoder : public RowSource {
 public:
  JpegDecoder();
  ~JpegDecoder() override;
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  // The pixels of a JPEG in a window, as rows to be made: the same as of the whole, cut out. The file must stay.
  Image open(const uint8_t* file, size_t length, const Choose& choose);
  void make(int64_t first, int64_t count, uint8_t* const* places) override;
  // Gives back what libjpeg holds of the file.
  void close();

 private:
  // Each returns false where libjpeg gave up, and errors_.reason says why. libjpeg leaves them by longjmp, so they hold
  // nothing that has a destructor.
  bool create();
  bool start(const uint8_t* file, size_t length);
  bool cut(JDIMENSION* left, JDIMENSION* width);
  bool skip(JDIMENSION rows);
  bool read(uint8_t* const* places, JDIMENSION rows);
  bool drop(JDIMENSION rows);
  bool exact_in_parts() const;

  jpeg_decompress_struct info_;
  jpeg_progress_mgr progress_;
  JpegErrors errors_;
  int64_t top_ = 0;  // of the window's rows, among libjpeg's
  Buffer dropped_;
};

// The pixels of "P6" with 255 as its largest value, in a window: a view of the file.
Image decode_ppm(const uint8_t* file, size_t length, const Choose& choose);

// Throws unless a window lies inside.
void check_window(const Window& window, int64_t height, int64_t width);

}  // namespace greenload
