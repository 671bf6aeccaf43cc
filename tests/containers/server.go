// A web server in one static binary, with all that Go's runtime does meanwhile: threads, timers, collections, signals.
package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func work(w http.ResponseWriter, r *http.Request) {
	var group sync.WaitGroup
	sums := make([][32]byte, 8)
	for n := range sums {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			data := make([]byte, 1<<20)
			for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); {
				sums[n] = sha256.Sum256(data)
			}
			time.Sleep(time.Millisecond)
		}(n)
	}
	group.Wait()
	runtime.GC()
	fmt.Fprintf(w, "%x\n", sums[0])
}

func main() {
	http.HandleFunc("/work", work)
	http.Handle("/", http.FileServer(http.Dir("/work/www")))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		fmt.Println("ends")
		os.Exit(0)
	}()
	if err := http.ListenAndServe(":8080", nil); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
