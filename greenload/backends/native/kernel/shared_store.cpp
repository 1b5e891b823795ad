#include "shared_store.h"

#include <pthread.h>

#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "files.h"

namespace greenload {

namespace {

using Identity = std::tuple<std::string, std::string, int64_t>;  // folder, key, count

// Never destroyed: threads may outlast the program's end.
struct Registry {
  std::mutex lock;
  std::map<Identity, std::weak_ptr<Store>> stores;
};

Registry& registry() {
  static Registry* made = [] {
    auto* fresh = new Registry;
    // A child must not inherit it locked by a thread that it hasn't got.
    pthread_atfork([] { registry().lock.lock(); }, [] { registry().lock.unlock(); }, [] { registry().lock.unlock(); });
    return fresh;
  }();
  return *made;
}

}  // namespace

SharedStore::SharedStore(const char* folder, const uint8_t* key, int64_t count, int64_t budget) {
  const std::string path = folder ? key_folder(folder, key) : "";
  const Identity identity(path, std::string(reinterpret_cast<const char*>(key), kKeyBytes), count);
  std::lock_guard<std::mutex> guard(registry().lock);
  auto& stores = registry().stores;
  for (auto at = stores.begin(); at != stores.end();) {
    at = at->second.expired() ? stores.erase(at) : std::next(at);
  }
  auto known = stores.find(identity);
  store_ = known == stores.end() ? nullptr : known->second.lock();
  if (store_ && !store_->forked()) {
    store_->set_budget(budget);
    return;
  }
  if (store_) {
    new std::shared_ptr<Store>(std::move(store_));  // see the destructor
  }
  store_ = std::make_shared<Store>(path, key, count, budget);
  stores[identity] = store_;
}

SharedStore::~SharedStore() {
  if (store_ && store_->forked()) {
    // A child's copy of the parent's store may be locked, or waited for, by threads that the child hasn't got.
    new std::shared_ptr<Store>(std::move(store_));
  }
}

}  // namespace greenload
