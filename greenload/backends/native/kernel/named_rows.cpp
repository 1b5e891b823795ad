// The process's rows of counters, by name.
#include <pthread.h>

#include <cstdio>
#include <map>
#include <mutex>

#include "counters.h"
#include "failure.h"

namespace greenload {

namespace {

struct Table {
  std::mutex lock;
  std::map<std::string, std::weak_ptr<Row>> rows;
};

// Never destroyed: threads may count while the process ends. Never left locked in a child that is forked.
Table& table() {
  static Table* made = [] {
    pthread_atfork([] { table().lock.lock(); }, [] { table().lock.unlock(); }, [] { table().lock.unlock(); });
    return new Table;
  }();
  return *made;
}

void forget(const std::string& name) {
  std::lock_guard<std::mutex> lock(table().lock);
  const auto found = table().rows.find(name);
  if (found != table().rows.end() && found->second.expired()) {  // it may have been made anew
    table().rows.erase(found);
  }
}

}  // namespace

std::shared_ptr<Row> named_row(const std::string& name) {
  if (name.empty() || name.size() >= GL_NAME) {
    fail(GL_BAD_CALL, "a counter's name has 1 to %d bytes, this one %zu", GL_NAME - 1, name.size());
  }
  std::shared_ptr<Row> fresh(new Row, [name](Row* row) {
    forget(name);
    delete row;
  });
  std::lock_guard<std::mutex> lock(table().lock);
  std::weak_ptr<Row>& kept = table().rows[name];
  if (std::shared_ptr<Row> row = kept.lock()) {
    return row;
  }
  kept = fresh;
  return fresh;
}

int64_t named_rows(gl_named_counter* rows, int64_t capacity) {
  std::vector<std::shared_ptr<Row>> held;  // given up behind the lock, which `forget` takes
  std::lock_guard<std::mutex> lock(table().lock);
  held.reserve(table().rows.size());
  int64_t count = 0;
  for (const auto& [name, kept] : table().rows) {
    if (std::shared_ptr<Row> row = kept.lock()) {
      if (count < capacity) {
        snprintf(rows[count].name, GL_NAME, "%s", name.c_str());
        rows[count].counter = row->read();
      }
      held.push_back(std::move(row));
      count++;
    }
  }
  return count;
}

}  // namespace greenload
