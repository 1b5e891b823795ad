#include "failure.h"

#include <cstdarg>
#include <cstdio>

namespace greenload {

void fail(int32_t status, const char* format, ...) {
  Failure failure;
  failure.status = status;
  va_list values;
  va_start(values, format);
  vsnprintf(failure.reason, sizeof failure.reason, format, values);
  va_end(values);
  throw failure;
}

}  // namespace greenload
