// Threads that help operations with their batches. Where batches are large, few of them are worked on at a time, each by
// several threads: a batch for each thread would take memory for as many.
#pragma once
#include <cstdint>
#include <functional>

namespace greenload {

// Does `work(first, count)` on all of `total`, `part` of it at a time, in this thread and in as many as `helpers` of the
// process's own. Returns when all is done. `work` must not throw.
void share(int64_t total, int64_t part, int64_t helpers, const std::function<void(int64_t, int64_t)>& work);

}  // namespace greenload
