#include "counters.h"

#include <time.h>

#include <algorithm>

namespace greenload {

namespace {

// Reading the CPU clock takes about half a microsecond: about 0.05 % of this.
constexpr int64_t kBetweenReadings = 1'000'000;
// Of images that take less than this only one in kSampled is timed: four readings of the clock are about 0.5 % of it.
// Those of photographs take unlike times, so that a few of them would say little of the others.
constexpr int64_t kQuick = 40'000;
constexpr int64_t kSampled = 16;
// Of batches only one in this long is timed, which takes two readings of the CPU clock: about 0.5 % of this.
constexpr int64_t kWorthTiming = 200'000;
// A batch of this many times as many images as the last one that was timed is timed in any case.
constexpr int64_t kUnusual = 4;

int64_t now_of(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// Of a whole, what some have of all.
int64_t part(int64_t whole, int64_t some, int64_t all) {
  return static_cast<int64_t>(static_cast<double>(whole) * static_cast<double>(some) / static_cast<double>(all));
}

int64_t wall_now() { return now_of(CLOCK_MONOTONIC); }
int64_t cpu_now() { return now_of(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace

void Row::add(const gl_counter& counter) {
  const auto more = [](std::atomic<int64_t>& sum, int64_t value) {
    if (value) {
      sum.fetch_add(value, std::memory_order_relaxed);  // which takes longer than to ask
    }
  };
  more(images_, counter.images);
  more(nanoseconds_, counter.nanoseconds);
  more(bytes_in_, counter.bytes_in);
  more(bytes_out_, counter.bytes_out);
  more(timed_, counter.timed);
  more(wall_nanoseconds_, counter.wall_nanoseconds);
  more(crossed_, counter.crossed);
}

gl_counter Row::read() const {
  return {images_.load(std::memory_order_relaxed),   nanoseconds_.load(std::memory_order_relaxed),
          bytes_in_.load(std::memory_order_relaxed), bytes_out_.load(std::memory_order_relaxed),
          timed_.load(std::memory_order_relaxed),    wall_nanoseconds_.load(std::memory_order_relaxed),
          crossed_.load(std::memory_order_relaxed)};
}

Counters::Counters(size_t steps) {
  for (size_t i = 0; i <= steps; i++) {
    rows_.push_back(std::make_shared<Row>());
  }
}

void Counters::share(const std::string& name, const int32_t* numbers) {
  std::vector<std::shared_ptr<Row>> rows;
  for (size_t i = 0; i + 1 < rows_.size(); i++) {
    rows.push_back(numbers[i] < 0 ? rows_[i] : named_row(name + "/" + std::to_string(numbers[i])));
  }
  rows.push_back(named_row(name));
  rows_ = std::move(rows);
}

void Counters::read(gl_counter* counters) const {
  for (size_t i = 0; i < rows_.size(); i++) {
    counters[i] = rows_[i]->read();
  }
}

void Tally::begin() {
  started_ = false;
  if (skipped_ > 0) {
    skipped_--;
  } else {
    start();
  }
}

void Tally::start() {
  started_ = true;
  before_ = counters_.back().images;
  // Timed is one from the midst: the first takes longer, as nothing is in the caches yet.
  image_ = kSampled - std::min(usual_, kSampled) / 2;
  wall_ = wall_now();
  cpu_ = cpu_now();
}

void Tally::finish(Counters& total) {
  gl_counter& whole = counters_.back();
  const int64_t images = whole.images - before_;
  if (!started_ || !images) {
    untimed_ += whole.images;
  } else {
    share_out(wall_now());
    const bool told = told_ > 0;
    share_out_untold();
    usual_ = whole.images;
    skipped_ = kWorthTiming / std::max<int64_t>(whole.nanoseconds * usual_ / images, 1);
    const double others = static_cast<double>(untimed_ + before_) / static_cast<double>(images);
    for (gl_counter& counter : counters_) {
      counter.nanoseconds += static_cast<int64_t>(others * static_cast<double>(counter.nanoseconds));
    }
    // A batch of which no image was timed has taken it for what the next one does.
    for (size_t i = 0; told && i < ticks_.size(); i++) {
      counters_[i].nanoseconds += part(carried_, counters_[i].nanoseconds, whole.nanoseconds);
    }
    carried_ = told ? 0 : carried_ + whole.nanoseconds;
    untimed_ = 0;
  }
  for (size_t i = 0; i < counters_.size(); i++) {
    total.add(i, counters_[i]);
    counters_[i] = gl_counter();
  }
}

void Tally::begin_image() {
  if (!started_ && counters_.back().images >= kUnusual * usual_) {
    start();
  }
  timing_ = started_ && (!quick_ || image_ % kSampled == 0);
  image_++;
  if (timing_) {
    image_begin_ = last_ = wall_now();
  }
}

void Tally::finish_image(int64_t bytes_in, int64_t bytes_out) {
  gl_counter& whole = counters_.back();
  whole.images++;
  whole.timed++;
  whole.bytes_in += bytes_in;
  whole.bytes_out += bytes_out;
  if (!timing_) {
    return;
  }
  const int64_t now = wall_now();
  timed_ += now - image_begin_;
  quick_ = now - image_begin_ < kQuick;
  if (now - wall_ >= kBetweenReadings) {
    share_out(now);
  }
}

void Tally::note(size_t step, int64_t bytes_in, int64_t bytes_out) {
  gl_counter& counter = counters_[step];
  counter.images++;
  counter.timed++;
  counter.bytes_in += bytes_in;
  counter.bytes_out += bytes_out;
  if (bytes_in) {
    spend(step);  // what another step has done as well takes no time
  }
}

void Tally::spend(size_t step) {
  if (!timing_) {
    return;
  }
  const int64_t now = wall_now();
  ticks_[step] += now - last_;
  last_ = now;
}

void Tally::spend(const std::vector<size_t>& steps) {
  if (!timing_) {
    return;
  }
  const int64_t now = wall_now(), each = (now - last_) / static_cast<int64_t>(steps.size());
  for (size_t step : steps) {
    ticks_[step] += each;
  }
  last_ = now;
}

// What the thread has spent since the last reading. Images that weren't timed are taken for like those that were.
void Tally::share_out(int64_t now) {
  const int64_t cpu = cpu_now(), spent = cpu - cpu_;
  wall_ = now;
  cpu_ = cpu;
  counters_.back().nanoseconds += spent;
  if (timed_ <= 0) {
    untold_ += spent;
    return;
  }
  told_ += spent;
  for (size_t i = 0; i < ticks_.size(); i++) {
    counters_[i].nanoseconds += part(spent, ticks_[i], timed_);
    ticks_[i] = 0;
  }
  timed_ = 0;
}

// What a batch's last images took, where none of them was timed: as its others did.
void Tally::share_out_untold() {
  for (size_t i = 0; i < ticks_.size() && untold_ && told_; i++) {
    counters_[i].nanoseconds += part(untold_, counters_[i].nanoseconds, told_);
  }
  told_ = untold_ = 0;
}

}  // namespace greenload
