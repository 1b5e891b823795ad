#include "transcoder.h"

#include <algorithm>

#include "failure.h"
#include "forms.h"

namespace greenload {

namespace {

constexpr size_t kLargestKept = size_t{4} << 20;  // more isn't held for the next file: few are as large
constexpr int64_t kCoefficientBytes = 2;               // of coefficients, for one of the file: cache_form.py

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

int64_t Transcoder::size(const uint8_t* file, int64_t length, int32_t form) {
  int64_t needed = form == GL_COEFFICIENTS ? kCoefficientBytes * length : length;
  try {
    if (form == GL_PLANES || form == GL_PIXELS) {  // their headers tell
      transcode(file, length, form, nullptr, 0, &needed);
    }
  } catch (const Failure&) {
    return length;  // it stays as it is
  }
  return needed;
}

void Transcoder::trim() {
  if (memory_.size() > kLargestKept) {
    memory_.release();
  }
}

}  // namespace greenload
