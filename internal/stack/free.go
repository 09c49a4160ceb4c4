package stack

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreeAddress is a loopback address on which a process can listen that is started later. The port is below those that
// the system gives to outgoing connections (32768 and up on Linux), so that none of them takes it in between.
func FreeAddress() (string, error) {
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(20_000+rand.IntN(12_000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		return address, nil
	}
	return "", errors.New("no free port between 20000 and 32000")
}
