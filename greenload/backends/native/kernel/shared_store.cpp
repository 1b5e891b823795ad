#include "shared_store.h"

#include <pthread.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <tuple>
#include <utility>

#include "files.h"

namespace greenload {

namespace {

using Identity = std::tuple<std::string, std::string, int64_t>;  // folder, key, count

// Never destroyed: threads may outlast the program's end.
struct Registry {
  std::mutex lock;
  std::condition_variable closed;
  // An entry goes once its store is closed: one that has expired is of a store that a thread is closing.
  std::map<Identity, std::weak_ptr<Store>> stores;
};

Registry& registry() {
  static Registry* made = [] {
    auto* fresh = new Registry;
    // A child begins with none: what its parent's threads were opening or closing, or had locked, isn't waited for.
    pthread_atfork(nullptr, nullptr, [] { new (&registry()) Registry; });
    return fresh;
  }();
  return *made;
}

// Closes a store, without the lock: that writes files. Who opens its folder meanwhile waits, and finds them.
struct Closing {
  Identity identity;
  void operator()(Store* store) const {
    delete store;
    std::lock_guard<std::mutex> guard(registry().lock);
    auto& stores = registry().stores;
    const auto own = stores.find(identity);
    if (own != stores.end() && own->second.expired()) {
      stores.erase(own);
    }
    registry().closed.notify_all();
  }
};

}  // namespace

SharedStore::SharedStore(const char* folder, const uint8_t* key, int64_t count, int64_t budget) {
  const std::string path = folder ? key_folder(folder, key) : "";
  const Identity identity(path, std::string(reinterpret_cast<const char*>(key), kKeyBytes), count);
  std::unique_ptr<Store, Closing> fresh(nullptr, Closing{identity});  // before the lock, which Closing takes
  std::unique_lock<std::mutex> lock(registry().lock);
  auto& stores = registry().stores;
  for (auto known = stores.find(identity); known != stores.end(); known = stores.find(identity)) {
    store_ = known->second.lock();
    if (store_) {
      store_->set_budget(budget);
      return;
    }
    registry().closed.wait(lock);
  }
  fresh.reset(new Store(path, key, count, budget));
  store_ = std::move(fresh);
  stores[identity] = store_;
}

SharedStore::~SharedStore() {
  if (store_ && store_->forked()) {
    // A child's copy of the parent's store may be locked, or waited for, by threads that the child hasn't got.
    new std::shared_ptr<Store>(std::move(store_));
  }
}

}  // namespace greenload
