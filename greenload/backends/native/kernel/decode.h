// Decoding: JPEG by libjpeg, of a window no more than it needs; and binary PPM, which other backends' decoders hand in.
#pragma once
#include <csetjmp>
#include <cstdio>
#include <functional>

#include <jpeglib.h>

#include "buffer.h"
#include "image.h"

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
  struct Errors {
    jpeg_error_mgr base;  // first, so that libjpeg's pointer to it is one to this
    jmp_buf jump;
    char reason[JMSG_LENGTH_MAX];
  };

  // Each returns false where libjpeg gave up, and errors_.reason says why. libjpeg leaves them by longjmp, so they hold
  // nothing that has a destructor.
  bool create();
  bool start(const uint8_t* file, size_t length);
  bool cut(JDIMENSION* left, JDIMENSION* width);
  bool read(JDIMENSION skipped, uint8_t* first, size_t pitch, JDIMENSION rows);
  void stop();
  bool exact_in_parts() const;
  static void on_error(j_common_ptr info);
  static void on_message(j_common_ptr info, int level);
  static void on_progress(j_common_ptr info);

  jpeg_decompress_struct info_;
  jpeg_progress_mgr progress_;
  Errors errors_;
};

// The pixels of "P6" with 255 as its largest value, in a window: a view of the file.
Image decode_ppm(const uint8_t* file, size_t length, const Choose& choose);

// Throws unless a window lies inside.
void check_window(const Window& window, int64_t height, int64_t width);

}  // namespace greenload
