// The forms in which a file's image is kept: gl_form.
#pragma once
#include <cstdint>

#include "buffer.h"
#include "coefficients.h"
#include "decode.h"
#include "image.h"
#include "own_jpeg.h"
#include "planes.h"
#include "segments.h"

namespace greenload {

// Decodes every form, telling them by their first bytes.
class Decoder {
 public:
  // The pixels in a window: the same as of the whole, cut out. They lie in the file, or are rows to be made, until
  // `close`. The file must stay.
  Image open(const uint8_t* file, int64_t length, const Choose& choose);
  // The same in memory: in the file, in memory of this, or in `out` where it isn't null and takes them: `out_bytes`.
  Image decode(const uint8_t* file, int64_t length, const Choose& choose, uint8_t* out, int64_t out_bytes);
  void close() { jpeg_.close(); }
  void trim(size_t limit);

 private:
  JpegDecoder jpeg_;
  OwnJpegDecoder own_{&jpeg_};
  PlanesDecoder planes_;
  CoefficientsDecoder coefficients_;
  Segments segments_;
  Buffer pixels_, cut_, last_;
};

// Of a form other than GL_TRANSCODED of a JPEG: plain, and its sizes. Sides of 0 where it is none.
gl_header probe_kept(const uint8_t* file, int64_t length);

// gl_transcode. Throws a Failure where it can't be.
int64_t transcode(const uint8_t* file, int64_t length, int32_t form, uint8_t* out, int64_t capacity, int64_t* needed);

}  // namespace greenload
