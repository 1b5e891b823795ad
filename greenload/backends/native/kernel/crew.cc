#include "crew.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

namespace greenload {

namespace {

constexpr int64_t kMostHelpers = 1024;

struct Job {
  const std::function<void(int64_t, int64_t)>& work;
  const int64_t total, part;
  int64_t places;  // for helpers that may still join
  int64_t active = 0;
  std::atomic<int64_t> next{0};

  void run() {
    for (int64_t first; (first = next.fetch_add(part)) < total;) work(first, std::min(part, total - first));
  }
};

class Crew {
 public:
  void share(Job& job, int64_t helpers) {
    {
      const std::lock_guard<std::mutex> lock(lock_);
      hire(helpers);
      jobs_.push_back(&job);
    }
    waiting_.notify_all();
    job.run();
    std::unique_lock<std::mutex> lock(lock_);
    const auto at = std::find(jobs_.begin(), jobs_.end(), &job);
    if (at != jobs_.end()) jobs_.erase(at);
    done_.wait(lock, [&job] { return job.active == 0; });
  }
  bool of_this_process() const { return process_ == getpid(); }

 private:
  // Has as many helpers, or as many as can be started. They take no signals: these are for the interpreter's threads.
  void hire(int64_t helpers) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; helpers_ < std::min(helpers, kMostHelpers); helpers_++) std::thread(&Crew::help, this).detach();
    } catch (const std::system_error&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  void help() {
    pthread_setname_np(pthread_self(), "greenload-help");  // what top -H shows
    std::unique_lock<std::mutex> lock(lock_);
    for (;;) {
      waiting_.wait(lock, [this] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      job.active++;
      if (--job.places == 0) jobs_.pop_front();
      lock.unlock();
      job.run();
      lock.lock();
      const auto at = std::find(jobs_.begin(), jobs_.end(), &job);
      if (at != jobs_.end()) jobs_.erase(at);  // nothing of it is left to begin
      if (--job.active == 0) done_.notify_all();
    }
  }

  const pid_t process_ = getpid();
  std::mutex lock_;
  std::condition_variable waiting_, done_;
  std::deque<Job*> jobs_;
  int64_t helpers_ = 0;
};

}  // namespace

void share(int64_t total, int64_t part, int64_t helpers, const std::function<void(int64_t, int64_t)>& work) {
  static Crew* crew = new Crew;  // never destroyed: helpers wait in it when the process ends
  if (helpers <= 0 || total <= part || !crew->of_this_process()) {
    if (total > 0) work(0, total);
    return;
  }
  Job job{work, total, part, std::min(helpers, (total - 1) / part)};
  crew->share(job, helpers);
}

}  // namespace greenload
