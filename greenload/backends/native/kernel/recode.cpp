#include "recode.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include <jerror.h>

#include "failure.h"
#include "segments.h"

namespace greenload {

namespace {

constexpr size_t kFirstSize = size_t{1} << 16;

void begin_memory(j_compress_ptr info) {
  JpegMemory* memory = reinterpret_cast<JpegMemory*>(info->dest);
  memory->base.next_output_byte = memory->data;
  memory->base.free_in_buffer = memory->size;
}

boolean grow_memory(j_compress_ptr info) {
  JpegMemory* memory = reinterpret_cast<JpegMemory*>(info->dest);
  uint8_t* larger = static_cast<uint8_t*>(realloc(memory->data, 2 * memory->size));
  if (!larger) {
    ERREXIT1(info, JERR_OUT_OF_MEMORY, 0);
  }
  memory->data = larger;
  memory->base.next_output_byte = larger + memory->size;
  memory->base.free_in_buffer = memory->size;
  memory->size *= 2;
  return TRUE;
}

void end_memory(j_compress_ptr info) {
  JpegMemory* memory = reinterpret_cast<JpegMemory*>(info->dest);
  memory->used = memory->size - memory->base.free_in_buffer;
}

// What libjpeg writes itself, an index of other segments, and EXIF: see write().
bool is_rewritten(const jpeg_marker_struct* marker) {
  auto begins = [&](const char* text, size_t length) {
    return marker->data_length >= length && memcmp(marker->data, text, length) == 0;
  };
  return (marker->marker == JPEG_APP0 && begins("JFIF\0", 5)) || (marker->marker == JPEG_APP0 + 14 && begins("Adobe", 5)) ||
         (marker->marker == kIndexMarker && begins(kIndexName, kIndexNameBytes)) ||
         (marker->marker == JPEG_APP0 + 1 && is_exif(marker->data, marker->data_length));
}

// Of n MCUs a row: how many in a segment. It divides them, and segments a row are as near to `wanted` as there are.
int interval_of(int n, int wanted) {
  int best = n;
  double least = INFINITY;
  for (int k = 1; k <= n && k <= 65535; k++) {
    const double off = std::fabs(std::log(static_cast<double>(n) / k / wanted));
    if (n % k == 0 && n / k <= 2.5 * wanted && off < least) {
      best = k;
      least = off;
    }
  }
  return best;
}

}  // namespace

Recoder::Recoder() {
  memset(&from_, 0, sizeof from_);
  memset(&to_, 0, sizeof to_);
  memset(&made_, 0, sizeof made_);
  from_.err = to_.err = errors_.start();
  JpegErrors::limit_scans(&progress_);
  if (!create()) {
    jpeg_destroy_decompress(&from_);
    jpeg_destroy_compress(&to_);
    fail(GL_BAD_CALL, "libjpeg doesn't start: %s", errors_.reason);
  }
  made_.base.init_destination = begin_memory;
  made_.base.empty_output_buffer = grow_memory;
  made_.base.term_destination = end_memory;
}

Recoder::~Recoder() {
  jpeg_destroy_compress(&to_);
  jpeg_destroy_decompress(&from_);
  free(made_.data);
}

bool Recoder::create() {
  if (setjmp(errors_.jump)) {
    return false;
  }
  jpeg_create_decompress(&from_);
  jpeg_create_compress(&to_);
  from_.progress = &progress_;
  return true;
}

void Recoder::stop() {
  jpeg_abort_compress(&to_);
  jpeg_abort_decompress(&from_);
}

void Recoder::give_up() {
  stop();
  fail(GL_BAD_FILE, "%s", errors_.reason);
}

bool Recoder::open(const uint8_t* file, size_t length, bool markers) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  jpeg_mem_src(&from_, file, length);
  for (int marker = JPEG_APP0; marker < JPEG_APP0 + 16; marker++) {
    jpeg_save_markers(&from_, marker, markers ? 0xFFFF : 0);
  }
  jpeg_save_markers(&from_, JPEG_COM, markers ? 0xFFFF : 0);
  jpeg_read_header(&from_, TRUE);
  return true;
}

Planes Recoder::plan(const uint8_t* file, size_t length) {
  if (!open(file, length, false)) {
    give_up();
  }
  const bool grey = from_.num_components == 1;
  if (!grey && (from_.num_components != 3 || from_.jpeg_color_space != JCS_YCbCr)) {
    snprintf(errors_.reason, sizeof errors_.reason, "its colours aren't YCbCr");
    give_up();
  }
  Planes planes;
  planes.components = from_.num_components;
  planes.height = from_.image_height;
  planes.width = from_.image_width;
  if (!grey) {
    const jpeg_component_info* parts = from_.comp_info;
    planes.across = parts[0].h_samp_factor / std::max(parts[1].h_samp_factor, 1);
    planes.down = parts[0].v_samp_factor / std::max(parts[1].v_samp_factor, 1);
    const bool same = parts[1].h_samp_factor == parts[2].h_samp_factor && parts[1].v_samp_factor == parts[2].v_samp_factor;
    const bool divides = parts[1].h_samp_factor * planes.across == parts[0].h_samp_factor &&
                         parts[1].v_samp_factor * planes.down == parts[0].v_samp_factor;
    if (!same || !divides || planes.across < 1 || planes.across > 2 || planes.down < 1 || planes.down > 2) {
      snprintf(errors_.reason, sizeof errors_.reason, "its chroma is sampled in another way than 4:4:4, 4:2:2, 4:4:0, 4:2:0");
      give_up();
    }
  }
  return planes;
}

void Recoder::read(const Planes& planes, uint8_t* to) {
  Planes placed = planes;
  placed.point(to);
  frame_planes(planes, to);
  targets_[0] = const_cast<uint8_t*>(placed.luma.data);
  targets_[1] = const_cast<uint8_t*>(placed.chroma[0].data);
  targets_[2] = const_cast<uint8_t*>(placed.chroma[1].data);
  size_t needed = 0;
  for (int c = 0; c < planes.components; c++) {
    const jpeg_component_info& part = from_.comp_info[c];
    needed += static_cast<size_t>(part.width_in_blocks) * DCTSIZE * part.v_samp_factor * DCTSIZE;
  }
  uint8_t* rows = rows_.bytes(needed);
  for (int c = 0; c < planes.components; c++) {
    const jpeg_component_info& part = from_.comp_info[c];
    for (int i = 0; i < part.v_samp_factor * DCTSIZE; i++) {
      at_[c][i] = rows;
      rows += static_cast<size_t>(part.width_in_blocks) * DCTSIZE;
    }
  }
  if (!read_planes(planes)) {
    give_up();
  }
  stop();
}

bool Recoder::read_planes(const Planes& planes) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  from_.raw_data_out = TRUE;
  from_.dct_method = JDCT_ISLOW;
  from_.out_color_space = from_.jpeg_color_space;
  jpeg_start_decompress(&from_);
  JSAMPARRAY groups[3] = {at_[0], at_[1], at_[2]};
  const JDIMENSION lines = static_cast<JDIMENSION>(from_.max_v_samp_factor) * DCTSIZE;
  for (int64_t group = 0; from_.output_scanline < from_.output_height; group++) {
    jpeg_read_raw_data(&from_, groups, lines);
    for (int c = 0; c < planes.components; c++) {
      const int64_t count = static_cast<int64_t>(from_.comp_info[c].v_samp_factor) * DCTSIZE, top = group * count;
      const int64_t width = c ? planes.chroma_width() : planes.width;
      const int64_t height = c ? planes.chroma_height() : planes.height;
      for (int64_t i = 0; i < count && top + i < height; i++) {
        memcpy(targets_[c] + (top + i) * width, at_[c][i], width);
      }
    }
  }
  jpeg_finish_decompress(&from_);
  return true;
}

void Recoder::pack(const Planes& planes, CoefficientsWriter* writer) {
  if (!pack_rows(planes, writer)) {
    give_up();
  }
  stop();
}

bool Recoder::pack_rows(const Planes& planes, CoefficientsWriter* writer) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  jvirt_barray_ptr* coefficients = jpeg_read_coefficients(&from_);
  const uint16_t* quants[3];
  for (int c = 0; c < planes.components; c++) {
    if (!from_.comp_info[c].quant_table) {
      ERREXIT1(&from_, JERR_NO_QUANT_TABLE, c);
    }
    quants[c] = from_.comp_info[c].quant_table->quantval;
  }
  writer->begin(planes, quants);
  for (int c = 0; c < planes.components; c++) {
    const jpeg_component_info& part = from_.comp_info[c];
    for (JDIMENSION y = 0; y < part.height_in_blocks; y++) {
      j_common_ptr info = reinterpret_cast<j_common_ptr>(&from_);
      writer->row(from_.mem->access_virt_barray(info, coefficients[c], y, 1, FALSE)[0], part.width_in_blocks);
    }
  }
  jpeg_finish_decompress(&from_);
  return true;
}

Bytes Recoder::transcode(const uint8_t* file, size_t length, int segments) {
  if (!made_.data) {
    made_.data = static_cast<uint8_t*>(malloc(kFirstSize));
    if (!made_.data) {
      throw std::bad_alloc();
    }
    made_.size = kFirstSize;
  }
  if (!open(file, length, true) || !write(segments, exif_of_jpeg(file, length))) {
    give_up();
  }
  stop();
  return {made_.data, made_.used};
}

// Of EXIF only what the file's orientation is taken from: all segments come to stand in front, where others count too.
bool Recoder::write(int segments, Bytes exif) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  jvirt_barray_ptr* coefficients = jpeg_read_coefficients(&from_);
  to_.dest = &made_.base;
  jpeg_copy_critical_parameters(&from_, &to_);
  to_.optimize_coding = TRUE;
  const int mcu = from_.num_components == 1 ? DCTSIZE : DCTSIZE * from_.max_h_samp_factor;
  to_.restart_interval =
      static_cast<unsigned>(interval_of(static_cast<int>((from_.image_width + mcu - 1) / mcu), segments));
  to_.restart_in_rows = 0;
  jpeg_write_coefficients(&to_, coefficients);
  if (exif.data) {
    jpeg_write_marker(&to_, JPEG_APP0 + 1, exif.data, static_cast<unsigned>(exif.size));
  }
  for (const jpeg_marker_struct* marker = from_.marker_list; marker; marker = marker->next) {
    if (!is_rewritten(marker)) {
      jpeg_write_marker(&to_, marker->marker, marker->data, marker->data_length);
    }
  }
  jpeg_finish_compress(&to_);
  jpeg_finish_decompress(&from_);
  return true;
}

}  // namespace greenload
