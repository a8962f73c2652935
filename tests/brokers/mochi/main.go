// A broker with shared subscriptions that is not mosquitto: mochi-mqtt on one port, for everybody; with a folder
// as well it keeps sessions and queues there: mochi PORT [FOLDER]
package main

import (
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/hooks/storage/bolt"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	server := mqtt.New(nil)
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 2 {
		kept := &bolt.Options{Path: filepath.Join(os.Args[2], "mochi.db")}
		if err := server.AddHook(new(bolt.Hook), kept); err != nil {
			log.Fatal(err)
		}
	}
	address := "127.0.0.1:" + os.Args[1]
	if err := server.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: address})); err != nil {
		log.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("serving")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	server.Close()
}
