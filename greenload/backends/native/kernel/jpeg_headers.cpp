#include "jpeg_headers.h"

#include <cstring>

#include "probe.h"

namespace greenload {

const uint8_t kNatural[kCoefficients] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63
};

namespace {

constexpr int kMostSegments = 4096;      // jpeg.py, MOST_SEGMENTS
constexpr int kJfifSize = 14, kAdobeSize = 12;
constexpr int kYcc = 1;  // the transform of Adobe's segment

enum Marker {
  kSof0 = 0xC0,
  kSof1 = 0xC1,
  kSof2 = 0xC2,
  kDht = 0xC4,
  kSoi = 0xD8,
  kEoi = 0xD9,
  kSos = 0xDA,
  kDqt = 0xDB,
  kDri = 0xDD,
  kApp0 = 0xE0,
  kApp14 = 0xEE,
  kApp15 = 0xEF,
  kCom = 0xFE
};

int at16(const uint8_t* from) { return from[0] << 8 | from[1]; }

}  // namespace

bool HuffmanCode::same(const HuffmanCode& other) const {
  return total == other.total && total >= 0 && memcmp(counts, other.counts, sizeof counts) == 0 &&
         memcmp(values, other.values, static_cast<size_t>(total)) == 0;
}

void JpegHeaders::begin(const uint8_t* file, size_t length) {
  at_ = file;
  end_ = file + length;
  frame_ = JpegFrame();
  segments_ = restart_interval_ = 0;
  jfif_ = false;
  adobe_ = -1;
  memset(has_quant_, 0, sizeof has_quant_);
  for (int i = 0; i < kHuffmanSlots; i++) {
    dc_[i].total = ac_[i].total = -1;
  }
  // Without its first marker nothing follows.
  at_ = length > 2 && file[0] == 0xFF && file[1] == kSoi ? file + 2 : end_;
}

JpegHeaders::Found JpegHeaders::next(JpegScan* scan) {
  for (;;) {
    if (end_ - at_ < 2 || *at_ != 0xFF) {
      return kOther;
    }
    while (end_ - at_ >= 2 && at_[1] == 0xFF) {
      at_++;  // fill bytes
    }
    if (end_ - at_ < 2) {
      return kOther;
    }
    const int marker = at_[1];
    if (marker == kEoi) {
      return kEnd;
    }
    if (++segments_ > kMostSegments || end_ - at_ < 4) {
      return kOther;
    }
    const int64_t size = at16(at_ + 2) - 2;
    const uint8_t* body = at_ + 4;
    if (size < 0 || end_ - body < size) {
      return kOther;
    }
    at_ = body + size;
    if (marker == kSos) {
      return scan_header(body, size, scan) ? kScan : kOther;
    }
    if (!segment(marker, body, size)) {
      return kOther;
    }
  }
}

bool JpegHeaders::segment(int marker, const uint8_t* body, int64_t size) {
  switch (marker) {
    case kSof0:
    case kSof1:
    case kSof2: return frame_header(marker, body, size);
    case kDqt: return quantisation(body, size);
    case kDht: return codes(body, size);
    case kDri:
      if (size != 2) {
        return false;
      }
      restart_interval_ = at16(body);
      return true;
    case kCom: return true;
    default: return marker >= kApp0 && marker <= kApp15 && application(marker, body, size);
  }
}

// What libjpeg looks at to tell colours apart (jdmarker.c, examine_app0 and examine_app14).
bool JpegHeaders::application(int marker, const uint8_t* body, int64_t size) {
  if (marker == kApp0 && size >= kJfifSize && memcmp(body, "JFIF\0", 5) == 0) {
    jfif_ = true;
    return body[5] == 1;  // of other versions libjpeg warns
  }
  if (marker == kApp14 && size >= kAdobeSize && memcmp(body, "Adobe", 5) == 0) {
    adobe_ = body[11];
  }
  return true;
}

// B.2.4.1
bool JpegHeaders::quantisation(const uint8_t* body, int64_t size) {
  while (size > 0) {
    const int slot = body[0] & 15, wide = body[0] >> 4;
    const int64_t taken = 1 + kCoefficients * (wide ? 2 : 1);
    if (slot >= 4 || wide > 1 || size < taken) {
      return false;
    }
    for (int i = 0; i < kCoefficients; i++) {
      quant_[slot][kNatural[i]] = static_cast<uint16_t>(wide ? at16(body + 1 + 2 * i) : body[1 + i]);
    }
    has_quant_[slot] = true;
    body += taken;
    size -= taken;
  }
  return true;
}

// B.2.4.2
bool JpegHeaders::codes(const uint8_t* body, int64_t size) {
  while (size > 0) {
    const int kind = body[0] >> 4, slot = body[0] & 15;
    if (size < 17 || kind > 1 || slot >= kHuffmanSlots) {
      return false;
    }
    HuffmanCode& code = kind ? ac_[slot] : dc_[slot];
    int total = 0;
    code.counts[0] = 0;
    for (int i = 1; i <= 16; i++) {
      total += code.counts[i] = body[i];
    }
    if (total > 256 || size < 17 + total) {
      return false;
    }
    memcpy(code.values, body + 17, static_cast<size_t>(total));
    code.total = total;
    body += 17 + total;
    size -= 17 + total;
  }
  return true;
}

// B.2.2
bool JpegHeaders::frame_header(int marker, const uint8_t* body, int64_t size) {
  if (frame_.count || size < 6 || body[0] != 8) {
    return false;
  }
  const int count = body[5];
  if ((count != 1 && count != kMostComponents) || size != 6 + 3 * count) {
    return false;
  }
  frame_.count = count;
  frame_.progressive = marker == kSof2;
  frame_.height = at16(body + 1);
  frame_.width = at16(body + 3);
  if (frame_.height < 1 || frame_.width < 1 || frame_.height > kLongestSide || frame_.width > kLongestSide ||
      frame_.height * frame_.width * count >= kMostValues) {
    return false;
  }
  for (int i = 0; i < count; i++) {
    JpegComponent& part = frame_.components[i];
    part.id = body[6 + 3 * i];
    part.across = body[7 + 3 * i] >> 4;
    part.down = body[7 + 3 * i] & 15;
    part.quant_slot = body[8 + 3 * i];
    if (part.quant_slot >= 4) {
      return false;
    }
  }
  return true;
}

// Whether it is grey or YCbCr, sampled as one of the usual kinds. The rules for colours are those of libjpeg
// (jdapimin.c, default_decompress_parms).
bool JpegHeaders::is_usual() const {
  const JpegComponent* parts = frame_.components;
  if (frame_.count == 1) {
    // A component that is alone has no sampling: A.2.2.
    return parts[0].across >= 1 && parts[0].across <= 4 && parts[0].down >= 1 && parts[0].down <= 4;
  }
  for (int i = 0; i < kMostComponents; i++) {
    const int most = i ? 1 : 2;
    if (parts[i].across < 1 || parts[i].across > most || parts[i].down < 1 || parts[i].down > most) {
      return false;
    }
    for (int j = 0; j < i; j++) {
      if (parts[i].id == parts[j].id) {
        return false;
      }
    }
  }
  if (jfif_) {
    return true;
  }
  if (adobe_ >= 0) {
    return adobe_ == kYcc;
  }
  return !(parts[0].id == 'R' && parts[1].id == 'G' && parts[2].id == 'B');
}

// B.2.3
bool JpegHeaders::scan_header(const uint8_t* body, int64_t size, JpegScan* scan) {
  if (!frame_.count || !is_usual() || size < 1) {
    return false;
  }
  scan->count = body[0];
  if (scan->count < 1 || scan->count > frame_.count || size != 4 + 2 * scan->count) {
    return false;
  }
  int before = -1;
  for (int i = 0; i < scan->count; i++) {
    const uint8_t* described = body + 1 + 2 * i;
    int index = 0;
    while (index < frame_.count && frame_.components[index].id != described[0]) {
      index++;
    }
    if (index == frame_.count || index <= before) {  // in the frame's order
      return false;
    }
    before = scan->components[i] = index;
    scan->dc_slots[i] = described[1] >> 4;
    scan->ac_slots[i] = described[1] & 15;
    if (scan->dc_slots[i] >= kHuffmanSlots || scan->ac_slots[i] >= kHuffmanSlots) {
      return false;
    }
    JpegComponent& part = frame_.components[index];
    if (!part.latched) {  // as libjpeg does: jdinput.c, latch_quant_tables
      if (!has_quant_[part.quant_slot]) {
        return false;
      }
      memcpy(part.quant, quant_[part.quant_slot], sizeof part.quant);
      part.latched = true;
    }
  }
  const uint8_t* rest = body + 1 + 2 * scan->count;
  scan->first = rest[0];
  scan->last = rest[1];
  scan->high = rest[2] >> 4;
  scan->low = rest[2] & 15;
  scan->data = body + size;
  return true;
}

}  // namespace greenload
