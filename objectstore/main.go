// Command leruli-objects is the object storage (S3) of a stack: versitygw's gateway on a folder, for one
// key, the group's. That key may do everything but learn the names of buckets: they are unguessable, and
// knowing one is the right to use it (docs/admins/security.md).
//
// The key is in the environment, not on the command line, which everybody can read:
// LERULI_OBJECTS_ACCESS and LERULI_OBJECTS_SECRET. It ends at a TERM or an INT, when what is under way is
// done.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
)

const (
	gateway = "github.com/versity/versitygw"
	// What the gateway's own program has.
	mostConnections = 250_000
	mostRequests    = 100_000
	mostParts       = 10_000
	// Bytes; a piece of an object on its way. The gateway's own program takes 1 MiB for each put, and with
	// many small objects Go's garbage collection is then busy with little else.
	pieceSize = 128 * 1024
	// Bytes of one object, or part, that is copied within the storage: as S3 has it.
	largestCopy = 5 << 30
)

func main() {
	version := flag.Bool("version", false, "say which version of the gateway this is, and end")
	listen := flag.String("listen", "", "`host:port` to listen on")
	health := flag.String("health", "/health", "`path` that answers everybody as long as the server is up")
	folder := flag.String("folder", "", "`folder` of the buckets; its file system has to know user xattrs")
	flag.Parse()
	if *version {
		fmt.Println("leruli-objects", gatewayVersion())
		return
	}
	if err := serve(*listen, *health, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "leruli-objects:", err)
		os.Exit(1)
	}
}

func serve(listen, health, folder string) error {
	access, secret := os.Getenv("LERULI_OBJECTS_ACCESS"), os.Getenv("LERULI_OBJECTS_SECRET")
	if access == "" || secret == "" {
		return errors.New("set LERULI_OBJECTS_ACCESS and LERULI_OBJECTS_SECRET to the group's key")
	}
	if listen == "" || folder == "" {
		return errors.New("say where to listen and where the buckets are: -listen and -folder")
	}
	attributes := meta.XattrMeta{}
	if err := attributes.Test(folder); err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	// No other process writes to the folder, so locks within this one are enough.
	buckets, err := posix.New(folder, attributes,
		posix.PosixOpts{ForceNoObjLockFile: true, IOBufferSize: pieceSize, CopyObjectThreshold: largestCopy})
	if err != nil {
		return err
	}
	withMaking, err := newMaking(buckets)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return embedgw.RunVersityGW(ctx, unlisted{withMaking}, &embedgw.Config{
		// As its root the key is checked within the process, and no policy is looked up for a request.
		RootUserAccess: access,
		RootUserSecret: secret,
		IAMService:     newOneKey(access, secret),
		Ports:          []string{listen},
		HealthPath:     health,
		KeepAlive:      true,
		DisableACLs:    true,
		Quiet:          true,
		S3Options:      []s3api.Option{withoutAdministration},
		MaxConnections: mostConnections, MaxRequests: mostRequests, MultipartMaxParts: mostParts,
	})
}

// withoutAdministration takes the gateway's admin calls away: the root key could list buckets with them.
func withoutAdministration(server *s3api.S3ApiServer) {
	server.Router.WithAdmSrv = false
}

// gatewayVersion is that of the module this was built with.
func gatewayVersion() string {
	information, ok := debug.ReadBuildInfo()
	if ok {
		for _, module := range information.Deps {
			if module.Path == gateway {
				return module.Version
			}
		}
	}
	return "unknown"
}
