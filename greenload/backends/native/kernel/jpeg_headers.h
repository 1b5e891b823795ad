// The markers of a JPEG file (ITU-T T.81, annex B), as far as files have them that the kernel decodes by itself.
//
// "Own", here and in what decodes scans, is a file that the kernel decodes without libjpeg: of 8 bits, grey or YCbCr
// with the usual kinds of subsampling, of Huffman codes, sequential or progressive. Whatever is unusual, missing or
// damaged, and whatever libjpeg warns of, makes a file libjpeg's, which decodes it or says why not. So where a file
// isn't own no reason is given: only `false`.
#pragma once
#include <cstddef>
#include <cstdint>

namespace greenload {

constexpr int kCoefficients = 64;  // of a block
constexpr int kMostComponents = 3;
constexpr int kHuffmanSlots = 4;

// The natural index of each coefficient in zigzag order.
extern const uint8_t kNatural[kCoefficients];

// A Huffman code as DHT gives it.
struct HuffmanCode {
  uint8_t counts[17] = {};  // of codes of each length
  uint8_t values[256] = {};
  int total = -1;  // of values; −1: none is given

  bool same(const HuffmanCode& other) const;
};

struct JpegComponent {
  uint8_t id = 0;
  int across = 1, down = 1;  // its sampling factors
  int quant_slot = 0;
  bool latched = false;               // `quant` is that of its first scan
  uint16_t quant[kCoefficients] = {};  // in natural order
};

struct JpegFrame {
  int64_t height = 0, width = 0;
  int count = 0;
  bool progressive = false;
  JpegComponent components[kMostComponents];

  // Luma's columns and rows for one of chroma.
  int across() const { return count == 1 ? 1 : components[0].across; }
  int down() const { return count == 1 ? 1 : components[0].down; }
};

struct JpegScan {
  int count = 0;
  int components[kMostComponents] = {};  // their indices in the frame
  int dc_slots[kMostComponents] = {}, ac_slots[kMostComponents] = {};
  int first = 0, last = 0, high = 0, low = 0;  // Ss, Se, Ah, Al
  const uint8_t* data = nullptr;
};

class JpegHeaders {
 public:
  enum Found { kScan, kEnd, kOther };  // kOther: the file isn't own

  // The file must stay.
  void begin(const uint8_t* file, size_t length);
  // Reads up to the data of the next scan, or to the end marker. Behind a scan: `resume` where its data end.
  Found next(JpegScan* scan);
  void resume(const uint8_t* marker) { at_ = marker; }

  const uint8_t* end() const { return end_; }
  const JpegFrame& frame() const { return frame_; }
  int restart_interval() const { return restart_interval_; }
  const HuffmanCode& dc(int slot) const { return dc_[slot]; }
  const HuffmanCode& ac(int slot) const { return ac_[slot]; }

 private:
  bool segment(int marker, const uint8_t* body, int64_t size);
  bool quantisation(const uint8_t* body, int64_t size);
  bool codes(const uint8_t* body, int64_t size);
  bool frame_header(int marker, const uint8_t* body, int64_t size);
  bool application(int marker, const uint8_t* body, int64_t size);
  bool scan_header(const uint8_t* body, int64_t size, JpegScan* scan);
  bool is_usual() const;

  const uint8_t* at_ = nullptr;
  const uint8_t* end_ = nullptr;
  JpegFrame frame_;
  int segments_ = 0;
  int restart_interval_ = 0;
  bool jfif_ = false;
  int adobe_ = -1;  // the transform that Adobe's segment states
  bool has_quant_[4] = {};
  uint16_t quant_[4][kCoefficients] = {};
  HuffmanCode dc_[kHuffmanSlots], ac_[kHuffmanSlots];
};

}  // namespace greenload
