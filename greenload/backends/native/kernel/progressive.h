// The scans of a progressive JPEG (ITU-T T.81, annex G), each down to a window's end. Coefficients are kept of the
// blocks that the window needs; of all others only which of them aren't zero, as refinements depend on that.
#pragma once
#include <cstdint>

#include "buffer.h"
#include "huffman.h"
#include "idct.h"
#include "jpeg_headers.h"
#include "scan_data.h"
#include "strips.h"

namespace greenload {

class ProgressiveScans {
 public:
  // Reads all scans up to the end marker. False where the file isn't own.
  bool read(JpegHeaders* headers, JpegScan* scan, const Strips& strips);
  // Decodes the next row of MCUs into the strips.
  void row(Strips& strips);

  void trim(size_t limit);

 private:
  // What is kept of a component.
  struct Kept {
    Buffer coefficients, masks;
    int16_t* blocks = nullptr;  // of the window's blocks, 64 each, in natural order
    uint64_t* nonzero = nullptr;  // of all blocks down to the window's end: a bit for each index in zigzag order
    int64_t columns = 0, rows = 0;
    BlockRange range;
    int8_t known[kCoefficients];  // the bit that each coefficient is known down to, its scan's Al; −1: none of it

    int16_t* block(int64_t row, int64_t column) {
      if (!range.has_row(row) || !range.has_column(column)) {
        return nullptr;
      }
      return blocks + ((row - range.top) * range.width() + column - range.left) * kCoefficients;
    }
  };

  void begin(const JpegFrame& frame, const Strips& strips);
  bool note(const JpegScan& scan);
  bool is_complete() const;
  bool has_its_segments(const JpegScan& scan) const;
  bool decode(const JpegHeaders& headers, const JpegScan& scan);
  bool first_coefficients(const JpegHeaders& headers, const JpegScan& scan);
  bool bands(const JpegHeaders& headers, const JpegScan& scan);
  template <bool kRefines, bool kQuick>
  bool band(const JpegScan& scan, Kept& kept);
  bool quick_band(const JpegScan& scan, Kept& kept);
  bool restart(BitReader* reader, int64_t unit);

  const JpegFrame* frame_ = nullptr;
  Kept kept_[kMostComponents];
  ScanData data_;
  HuffmanTable dc_tables_[kHuffmanSlots], band_table_, refinement_table_;
  int64_t interval_ = 0;
  int64_t mcu_rows_ = 0, mcu_columns_ = 0;  // of interleaved scans, down to the window's end
  int64_t all_mcu_rows_ = 0;
  int64_t row_ = 0;
};

}  // namespace greenload
