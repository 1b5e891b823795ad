// A file in the form that is kept, in memory that serves the next one too.
#pragma once
#include <cstdint>

#include "buffer.h"

namespace greenload {

class Transcoder {
 public:
  // Where a file is in a form (gl_form) afterwards: in memory of this until the next call, or where it was, if it can't
  // be in the form. Throws std::bad_alloc, and a Failure for a form that there isn't.
  void run(const uint8_t** file, int64_t* length, int32_t form);
  // Bytes of what run() gives, without making it: those of planes and pixels, about those of other forms.
  static int64_t size(const uint8_t* file, int64_t length, int32_t form);
  // Gives back memory that few files need: a thread may not keep another for long.
  void trim();

 private:
  Buffer memory_;
};

}  // namespace greenload
