// The one scan of a sequential JPEG (ITU-T T.81, F.2), row by row of MCUs down to a window's end. Of blocks that the
// window doesn't need only the lengths are decoded, and of segments between restart markers not even those.
#pragma once
#include <cstdint>

#include "huffman.h"
#include "idct.h"
#include "jpeg_headers.h"
#include "scan_data.h"
#include "strips.h"

namespace greenload {

class SequentialScan {
 public:
  // False where the scan isn't own.
  bool open(const JpegHeaders& headers, const JpegScan& scan, const Strips& strips);
  // Decodes the next row of MCUs into the strips. False where the data aren't sound: then no more can be decoded.
  bool row(Strips& strips);

  void trim(size_t limit) { data_.trim(limit); }

 private:
  // A block's place in an MCU.
  struct Member {
    int component;
    int64_t down, across;
    const HuffmanTable* dc;
    const HuffmanTable* ac;
  };

  struct RowMember;
  static constexpr int kMostMembers = 6;

  bool choose_tables(const JpegHeaders& headers, const JpegScan& scan);
  int64_t next_needed(int64_t mcu) const;
  bool go_on(BitReader* reader);
  bool jump(BitReader* reader);
  bool row_of_mcus(Strips& strips);
  bool quick_row(Strips& strips);
  void lay_out(Strips& strips, RowMember* row_members);
  bool mcu(BitReader& reader, int64_t column, const RowMember* members);

  ScanData data_;
  BitReader reader_;
  HuffmanTable dc_tables_[kHuffmanSlots], ac_tables_[kHuffmanSlots];
  const JpegFrame* frame_ = nullptr;
  const DctLoops* loops_ = nullptr;
  Member members_[kMostMembers];
  int count_ = 0;                    // of members
  BlockRange needed_;                // MCUs
  int64_t columns_ = 0;              // of MCUs
  int64_t interval_ = 0, left_ = 0;  // MCUs between restart markers, and up to the next
  int64_t mcu_ = 0, row_ = 0;        // the next
  int32_t dc_[kMostComponents] = {};
  // Zero between blocks; behind the coefficients lies what is none.
  alignas(16) int16_t block_[kCoefficients + 32];
};

}  // namespace greenload
