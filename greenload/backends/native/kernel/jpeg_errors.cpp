#include "jpeg_errors.h"

#include "probe.h"

namespace greenload {

namespace {

void on_error(j_common_ptr info) {
  JpegErrors* errors = reinterpret_cast<JpegErrors*>(info->err);
  errors->base.format_message(info, errors->reason);
  longjmp(errors->jump, 1);
}

void on_message(j_common_ptr info, int level) {
  if (level < 0) {
    on_error(info);
  }
}

void on_progress(j_common_ptr info) {
  if (!info->is_decompressor || reinterpret_cast<jpeg_decompress_struct*>(info)->input_scan_number <= kMostScans) {
    return;
  }
  JpegErrors* errors = reinterpret_cast<JpegErrors*>(info->err);
  snprintf(errors->reason, sizeof errors->reason, "more than %d scans", kMostScans);
  longjmp(errors->jump, 1);
}

}  // namespace

jpeg_error_mgr* JpegErrors::start() {
  jpeg_std_error(&base);
  base.error_exit = on_error;
  base.emit_message = on_message;
  reason[0] = 0;
  return &base;
}

void JpegErrors::limit_scans(jpeg_progress_mgr* progress) {
  *progress = jpeg_progress_mgr();
  progress->progress_monitor = on_progress;
}

}  // namespace greenload
