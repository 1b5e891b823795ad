// How a step gives up on an image: it throws, and gl_run turns that into the image's status and reason.
#pragma once
#include "abi.h"

namespace greenload {

struct Failure {
  int32_t status;  // gl_status
  char reason[GL_REASON];
};

// Throws a Failure. `format` as in printf.
[[noreturn]] __attribute__((format(printf, 2, 3))) void fail(int32_t status, const char* format, ...);

}  // namespace greenload
