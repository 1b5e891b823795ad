#include "strips.h"

#include <algorithm>

namespace greenload {

namespace {

constexpr int64_t kBehindRow = 64;  // that vectors read

int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The blocks of samples `begin` … `end` − 1, and where they are upsampled those of their neighbours.
void cover(int64_t begin, int64_t end, int64_t samples, int factor, int64_t* first, int64_t* behind) {
  const int64_t margin = factor > 1 ? 1 : 0;
  begin = std::max<int64_t>(0, begin / factor - margin);
  end = std::min(samples, (end - 1) / factor + 1 + margin);
  *first = begin / Strips::kSide;
  *behind = divided_up(end, Strips::kSide);
}

}  // namespace

void Strips::set(const JpegFrame& frame, const Window& window) {
  planes_ = Planes();
  planes_.height = frame.height;
  planes_.width = frame.width;
  planes_.components = frame.count;
  planes_.across = frame.across();
  planes_.down = frame.down();
  mcu_rows_ = divided_up(frame.height, kSide * planes_.down);
  mcu_columns_ = divided_up(frame.width, kSide * planes_.across);
  needed_mcus_ = {INT64_MAX, 0, INT64_MAX, 0};
  for (int c = 0; c < frame.count; c++) {
    // Of luma as many as it has a row or column for each of the image's.
    const int across = c ? planes_.across : 1, down = c ? planes_.down : 1;
    const int64_t height = divided_up(frame.height, down), width = divided_up(frame.width, across);
    rows_[c] = divided_up(height, kSide);
    columns_[c] = divided_up(width, kSide);
    BlockRange& range = needed_[c];
    cover(window.top, window.top + window.height, height, down, &range.top, &range.bottom);
    cover(window.left, window.left + window.width, width, across, &range.left, &range.right);
    const int64_t per_row = c ? 1 : planes_.down, per_column = c ? 1 : planes_.across;
    needed_mcus_.top = std::min(needed_mcus_.top, range.top / per_row);
    needed_mcus_.bottom = std::max(needed_mcus_.bottom, divided_up(range.bottom, per_row));
    needed_mcus_.left = std::min(needed_mcus_.left, range.left / per_column);
    needed_mcus_.right = std::max(needed_mcus_.right, divided_up(range.right, per_column));
    Memory& memory = memory_[c];
    memory.pitch = range.width() * kSide + kBehindRow;
    memory.mask = 2 * per_row - 1;
    memory.data = memory.buffer.bytes(static_cast<size_t>((memory.mask + 1) * kSide * memory.pitch));
    Plane& plane = c ? planes_.chroma[c - 1] : planes_.luma;
    plane = {memory.data, memory.pitch, range.left * kSide, (memory.mask + 1) * kSide - 1};
  }
}

int64_t Strips::mcu_row_of(int64_t y) const {
  const int64_t own = y / planes_.down;
  const bool reaches = planes_.down > 1 && y % 2;
  return std::min(own + (reaches ? 1 : 0), divided_up(planes_.height, planes_.down) - 1) / kSide;
}

void Strips::trim(size_t limit) {
  release_above(limit, {&memory_[0].buffer, &memory_[1].buffer, &memory_[2].buffer});
}

}  // namespace greenload
