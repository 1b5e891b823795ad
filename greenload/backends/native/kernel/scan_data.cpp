#include "scan_data.h"

namespace greenload {

const uint8_t* ScanData::read(const uint8_t* from, const uint8_t* end, int restart_interval) {
  uint8_t* const begin = data_.bytes(static_cast<size_t>(end - from) + kBehindData);
  uint8_t* to = begin;
  bytes_ = begin;
  ends_.clear();
  const uint8_t* at = from;
  for (;;) {
    const uint8_t* mark = static_cast<const uint8_t*>(memchr(at, 0xFF, static_cast<size_t>(end - at)));
    if (!mark || end - mark < 2) {
      return nullptr;
    }
    const uint8_t code = mark[1];
    const size_t size = static_cast<size_t>(mark - at) + (code == 0);  // a stuffed zero: its 0xFF is data
    memcpy(to, at, size);
    to += size;
    at = mark + 2;
    if (code == 0) {
      continue;
    }
    const bool restarts = code >= 0xD0 && code <= 0xD7;
    // Restart markers are numbered from 0 to 7, over and over.
    if (code == 0xFF || (restarts && (!restart_interval || code != 0xD0 + ends_.size() % 8))) {
      return nullptr;
    }
    ends_.push_back(to - begin);
    if (!restarts) {
      memset(to, 0, kBehindData);
      return mark;
    }
  }
}

bool ScanData::go_to(int64_t segment, BitReader* reader) {
  if (segment >= segments()) {
    return false;
  }
  limit_ = ends_[segment] * 8;
  reader->at = bytes_ + (segment ? ends_[segment - 1] : 0);
  reader->bits = 0;
  reader->count = 0;
  return true;
}

void ScanData::trim(size_t limit) {
  if (data_.size() > limit) {
    data_.release();
  }
  if (ends_.capacity() * sizeof(int64_t) > limit) {
    std::vector<int64_t>().swap(ends_);
  }
}

}  // namespace greenload
