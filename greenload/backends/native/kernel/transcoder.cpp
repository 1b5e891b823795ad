#include "transcoder.h"

#include <algorithm>

#include "failure.h"
#include "forms.h"

namespace greenload {

namespace {

constexpr size_t kLargestKept = size_t{4} << 20;  // more isn't held for the next file: few are as large

}  // namespace

void Transcoder::run(const uint8_t** file, int64_t* length, int32_t form) {
  uint8_t* out = nullptr;
  const int64_t likely = form == GL_COEFFICIENTS ? 3 * *length : *length + *length / 8;
  int64_t needed = likely + (1 << 16), written = 0;
  try {
    while (!written) {
      const int64_t room = std::max(needed, static_cast<int64_t>(memory_.size()));
      out = memory_.bytes(static_cast<size_t>(room));
      written = transcode(*file, *length, form, out, room, &needed);
    }
  } catch (const Failure& failure) {
    if (failure.status == GL_BAD_CALL) {
      throw;
    }
    return;  // of another kind, or damaged: whoever decodes it says so
  }
  *file = out;
  *length = written;
}

void Transcoder::trim() {
  if (memory_.size() > kLargestKept) {
    memory_.release();
  }
}

}  // namespace greenload
