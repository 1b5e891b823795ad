#include "scan_data.h"

namespace greenload {

const uint8_t* ScanData::read(const uint8_t* from, const uint8_t* end, int restart_interval) {
  uint8_t* const begin = data_.bytes(static_cast<size_t>(end - from) + kBehindData);
  uint8_t* to = begin;
  bytes_ = begin;
  segments_.clear();
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
    if (code == 0xFF || (restarts && !restart_interval)) {
      return nullptr;
    }
    segments_.push_back({to - begin, code});
    if (!restarts) {
      memset(to, 0, kBehindData);
      return mark;
    }
  }
}

bool ScanData::go_to(int64_t segment, BitReader* reader) {
  if (segment >= static_cast<int64_t>(segments_.size())) {
    return false;
  }
  if (segment && segments_[segment - 1].marker != 0xD0 + (segment - 1) % 8) {
    return false;
  }
  const int64_t begin = segment ? segments_[segment - 1].end : 0;
  limit_ = segments_[segment].end * 8;
  reader->at = bytes_ + begin;
  reader->bits = 0;
  reader->count = 0;
  return true;
}

void ScanData::trim(size_t limit) {
  if (data_.size() > limit) {
    data_.release();
  }
  if (segments_.capacity() * sizeof(Segment) > limit) {
    std::vector<Segment>().swap(segments_);
  }
}

}  // namespace greenload
