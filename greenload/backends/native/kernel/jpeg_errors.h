// How libjpeg gives up: by longjmp, with a reason. What it only warns of is damage too: pixels would be made up.
#pragma once
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

namespace greenload {

struct JpegErrors {
  jpeg_error_mgr base;  // first, so that libjpeg's pointer to it is one to this
  jmp_buf jump;
  char reason[JMSG_LENGTH_MAX];

  // What libjpeg's struct gets as its `err`.
  jpeg_error_mgr* start();
  // What a decompressing one gets as its `progress`: a pass over the whole image for each of a thousand scans would keep
  // a thread for hours.
  static void limit_scans(jpeg_progress_mgr* progress);
};

}  // namespace greenload
