#include "huffman.h"

#include <algorithm>

namespace greenload {

namespace {

constexpr uint32_t kNoCode = kSlow;
constexpr int kLargestSize = 15;  // of extra bits

uint32_t entry(int value, int advance, int bits) {
  return static_cast<uint32_t>(value) << 16 | static_cast<uint32_t>(advance << 8 | bits);
}

// F.2.2.1, EXTEND
int extended(uint32_t extra, int size) {
  const int value = static_cast<int>(extra);
  return size && !(extra >> (size - 1)) ? value - (1 << size) + 1 : value;
}

// The extra bits behind a symbol's code.
int extra_bits(int symbol, HuffmanTable::Use use) {
  switch (use) {
    case HuffmanTable::kDc: return symbol;
    case HuffmanTable::kRefinement: return 0;
    case HuffmanTable::kProgressiveAc:
      if ((symbol & 15) == 0) {
        return symbol == 0xF0 ? 0 : symbol >> 4;
      }
      break;
    case HuffmanTable::kAc: break;
  }
  return symbol & 15;
}

}  // namespace

// A symbol with its extra bits as an entry that takes `bits`.
uint32_t HuffmanTable::whole(int symbol, int bits, uint32_t extra) const {
  const int run = symbol >> 4, size = symbol & 15;
  switch (use_) {
    case kDc: return entry(extended(extra, symbol), 0, bits);
    case kRefinement: return entry(symbol, 0, bits);
    case kAc:
    case kProgressiveAc: break;
  }
  if (size == 0 && run != 15) {
    if (use_ == kProgressiveAc) {  // G.1.2.2: so many blocks end
      return entry((1 << run) + static_cast<int>(extra), kBlockEnd, bits);
    }
    return run ? entry(0, kBadCode, bits) : entry(0, kBlockEnd, bits);
  }
  return entry(extended(extra, size), run + 1, bits);
}

void HuffmanTable::place(int symbol, uint32_t code, int length) {
  const int extra = extra_bits(symbol, use_);
  const int rest = kLookBits - length;
  uint32_t* to = look_ + (code << rest);
  if (extra > rest) {
    std::fill_n(to, size_t{1} << rest, kSlow | static_cast<uint32_t>(symbol << 8 | length));
    return;
  }
  const size_t each = size_t{1} << (rest - extra);
  for (uint32_t value = 0; value < 1u << extra; value++, to += each) {
    std::fill_n(to, each, whole(symbol, length + extra, value));
  }
}

bool HuffmanTable::set(const HuffmanCode& code, Use use) {
  if (use == use_ && code_.same(code)) {
    return true;
  }
  code_.total = -1;  // until it is done
  use_ = use;
  if (code.total < 0) {
    return false;
  }
  std::fill_n(look_, size_t{1} << kLookBits, kNoCode);
  uint32_t next = 0;
  int index = 0;
  for (int length = 1; length <= 16; length++, next <<= 1) {
    offset_[length] = index - static_cast<int32_t>(next);
    for (int i = 0; i < code.counts[length]; i++, next++, index++) {
      if (use == kDc && code.values[index] > kLargestSize) {
        return false;
      }
      if (next >> length) {
        return false;
      }
      if (length <= kLookBits) {
        place(code.values[index], next, length);
      }
    }
    if (code.counts[length] && next >> length) {  // no code is all ones
      return false;
    }
    limit_[length] = code.counts[length] ? next << (16 - length) : 0;
  }
  if (use == kAc) {
    join();
  }
  code_ = code;
  return true;
}

uint64_t HuffmanTable::pair_of(uint32_t index) const {
  const uint32_t first = look_[index];
  if (first & kSlow) {
    return 0;
  }
  const auto packed = [](uint32_t one, uint32_t other, int advance, int bits) {
    return static_cast<uint64_t>(bits) | static_cast<uint64_t>(entry_bits(one)) << 8 |
           static_cast<uint64_t>(entry_advance(one)) << 16 | static_cast<uint64_t>(advance) << 24 |
           static_cast<uint64_t>(one >> 16) << 32 | static_cast<uint64_t>(other >> 16) << 48;
  };
  const int bits = entry_bits(first);
  const uint32_t second = look_[(index << bits) & ((1 << kLookBits) - 1)];
  // A code that is none stands alone: behind another coefficient it would advance too far.
  if (entry_advance(first) >= kBlockEnd || (second & kSlow) || entry_advance(second) == kBadCode ||
      bits + entry_bits(second) > kLookBits) {
    return packed(first, first, 0, bits);
  }
  return packed(first, second, entry_advance(second), bits + entry_bits(second));
}

void HuffmanTable::join() {
  constexpr uint32_t kMask = (1 << kLookBits) - 1;
  for (uint32_t i = 0; i <= kMask; i++) {
    int bits = 0, advance = 0;
    uint32_t end = 0;
    while (!end) {
      const uint32_t one = look_[(i << bits) & kMask];
      const int more = entry_advance(one);
      if ((one & kSlow) || bits + entry_bits(one) > kLookBits || more == kBadCode || advance + more > 255) {
        break;
      }
      bits += entry_bits(one);
      if (more == kBlockEnd) {
        end = kSkipEnd;
      } else {
        advance += more;
      }
    }
    pairs_[i] = pair_of(i);
    skip_[i] = static_cast<uint16_t>(static_cast<uint32_t>(advance) << 8 | end | static_cast<uint32_t>(bits));
  }
}

uint32_t HuffmanTable::slow(uint64_t bits, uint32_t found) const {
  int length = entry_bits(found), symbol = entry_advance(found);
  if (!length) {
    const uint32_t code = static_cast<uint32_t>(bits >> 48);
    for (length = kLookBits + 1; length <= 16 && code >= limit_[length]; length++) {
    }
    if (length > 16) {
      return entry(0, kBadCode, 0);
    }
    symbol = code_.values[(code >> (16 - length)) + static_cast<uint32_t>(offset_[length])];
  }
  const int extra = extra_bits(symbol, use_);
  const uint32_t value = extra ? static_cast<uint32_t>(bits << length >> (64 - extra)) : 0;
  return whole(symbol, length + extra, value);
}

}  // namespace greenload
